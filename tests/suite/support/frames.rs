//! HTTP/2 as frames (RFC 9113), for what no well-behaved library would send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// The flag that no `CONTINUATION` follows.
pub const END_HEADERS: u8 = 4;

/// The flag of the last frame of a stream.
pub const END_STREAM: u8 = 1;

/// The flag of an answer to SETTINGS or PING.
pub const ACK: u8 = 1;

/// A received frame.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// Splits the received bytes into frames.
#[derive(Default)]
pub struct Reader {
    bytes: Vec<u8>,
}

impl Reader {
    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self, stream: &mut TcpStream) -> std::io::Result<Option<Frame>> {
        const HEAD_BYTES: usize = 9;
        loop {
            if let Some(head) = self.bytes.first_chunk::<HEAD_BYTES>() {
                let [a, b, c, kind, flags, stream @ ..] = *head;
                let end = HEAD_BYTES + u32::from_be_bytes([0, a, b, c]) as usize;
                if self.bytes.len() >= end {
                    let frame: Vec<u8> = self.bytes.drain(..end).collect();
                    return Ok(Some(Frame {
                        kind,
                        flags,
                        stream: u32::from_be_bytes(stream),
                        payload: frame[HEAD_BYTES..].to_vec(),
                    }));
                }
            }
            if stream.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// The bytes that a client is going to send.
pub struct Frames {
    bytes: Vec<u8>,
    next_stream: u32,
    is_first: bool,
}

impl Default for Frames {
    /// The preface and the client's settings.
    fn default() -> Self {
        let mut frames = Self {
            bytes: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            next_stream: 1,
            is_first: true,
        };
        frames.push(SETTINGS, 0, 0, &[]);
        frames
    }
}

impl Frames {
    /// True if nothing was sent yet.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    pub fn push(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a short frame");
        self.bytes.extend_from_slice(&length.to_be_bytes()[1..]);
        self.bytes.extend_from_slice(&[kind, flags]);
        self.bytes.extend_from_slice(&stream.to_be_bytes());
        self.bytes.extend_from_slice(payload);
    }

    /// A `POST` to that path on a new stream.
    pub fn open(&mut self, path: &str, flags: u8) -> u32 {
        self.open_with(path, flags, &[])
    }

    /// A call of gRPC to that path on a new stream.
    pub fn open_grpc(&mut self, path: &str) -> u32 {
        const CONTENT_TYPE: &[u8] = b"application/grpc";
        // RFC 7541, appendix A: 31 is `content-type`; in four bits 15 and 16 more.
        let field = [&[0x0f, 16, 16], CONTENT_TYPE].concat();
        self.open_with(path, END_HEADERS, &field)
    }

    fn open_with(&mut self, path: &str, flags: u8, further: &[u8]) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        // RFC 7541, appendix A: 3 is `:method: POST`, 6 `:scheme: http`, 1 `:authority`, 4 `:path`.
        let length = u8::try_from(path.len()).expect("a short path");
        let mut fields = vec![0x83, 0x86, 0x01, 1, b'x', 0x04, length];
        fields.extend_from_slice(path.as_bytes());
        fields.extend_from_slice(further);
        self.push(HEADERS, flags, stream, &fields);
        stream
    }

    /// Sends what was pushed. A send that was cancelled cannot be continued.
    pub async fn send(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        self.is_first = false;
        stream.write_all(&std::mem::take(&mut self.bytes)).await
    }
}
