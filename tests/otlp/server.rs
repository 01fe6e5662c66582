//! The server that is judged: any server, by its addresses, or our own, which is started for it and asked for its rows.
//!
//! **Invariant:** a foreign server is judged only by its answers; our own also has to have stored what it accepted.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Uri};
use tokio::runtime::Runtime;

use crate::answer::Answer;
use crate::case::{Case, Way};
use crate::message::Message;
use crate::ours::Ours;
use crate::telemetry::Mark;
use crate::verdict::{Fault, Verdict, ensure};
use crate::wire::{Connection, Reply, Version};

/// The situations of a server; some rules can be observed only in one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Situation {
    /// With its defaults.
    Plain,
    /// Lets browsers send from [`ORIGIN`] with [`TOKEN`], even if it does not require the token.
    Cors,
    /// Requires [`TOKEN`].
    Auth,
    /// Cannot accept anything at present.
    Refusing,
    /// Reads only keys that the specification defines, and none in snake_case.
    Strict,
    /// Drops attributes beyond the first [`ATTRIBUTES`] of an item.
    Cutting,
}

pub(crate) const ORIGIN: &str = "http://page.example";
pub(crate) const TOKEN: &str = "a-token-of-the-conformance-suite";
pub(crate) const ATTRIBUTES: usize = 8;

/// The addresses of a server.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub http: Uri,
    pub grpc: Option<Uri>,
}

pub(crate) struct Server {
    runtime: Runtime,
    kind: Kind,
    /// Held during a request that uses much of a resource that all requests share.
    large: Mutex<()>,
}

enum Kind {
    Foreign(HashMap<Situation, Address>),
    Ours(Mutex<Ours>),
}

/// A request that has not been sent yet.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub case: Case,
    pub situation: Situation,
    pub version: Version,
    pub method: Method,
    /// Another path than the signal's.
    pub path: Option<String>,
    pub content_type: Option<String>,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// gRPC: true if the message is compressed.
    pub compressed: bool,
}

impl Call {
    /// The message, in the encoding of the way, to a server with its defaults.
    pub(crate) fn of(case: Case, message: &Message) -> Self {
        Self::raw(
            case,
            match case.way {
                Way::Json => message.json().to_string().into_bytes(),
                Way::Protobuf | Way::Grpc => message.protobuf(),
            },
        )
    }

    /// Uses those bytes as the body, or as gRPC's message.
    pub(crate) fn raw(case: Case, body: impl Into<Bytes>) -> Self {
        Self {
            case,
            situation: Situation::Plain,
            version: match case.way {
                Way::Grpc => Version::Http2,
                Way::Protobuf | Way::Json => Version::Http1,
            },
            method: Method::POST,
            path: None,
            content_type: Some(case.way.content_type().to_owned()),
            headers: Vec::new(),
            body: body.into(),
            compressed: false,
        }
    }

    pub(crate) fn at(mut self, situation: Situation) -> Self {
        self.situation = situation;
        self
    }

    pub(crate) fn over(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    pub(crate) fn with_method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn on(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    pub(crate) fn with_content_type(mut self, content_type: Option<&str>) -> Self {
        self.content_type = content_type.map(str::to_owned);
        self
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Declares that the body is compressed with this encoding; over gRPC, that its message is.
    pub(crate) fn said_to_be(self, coding: &str) -> Self {
        let header = match self.case.way {
            Way::Grpc => "grpc-encoding",
            Way::Protobuf | Way::Json => "content-encoding",
        };
        let mut call = self.with_header(header, coding);
        call.compressed = true;
        call
    }

    /// The request's bytes and headers, as they are sent to that server.
    pub(crate) fn request(&self, base: &Uri) -> Request<Full<Bytes>> {
        let path = match (&self.path, self.case.way) {
            (Some(path), _) => path,
            (None, Way::Grpc) => self.case.signal.method(),
            (None, Way::Protobuf | Way::Json) => self.case.signal.path(),
        };
        let authority = base.authority().map_or("localhost", |it| it.as_str());
        let prefix = base.path().trim_end_matches('/');
        let target = match self.version {
            Version::Http1 => format!("{prefix}{path}"),
            Version::Http2 => format!("http://{authority}{prefix}{path}"),
        };
        let mut request = Request::builder().method(self.method.clone()).uri(target);
        if self.version == Version::Http1 {
            request = request.header("host", authority);
        }
        if let Some(content_type) = &self.content_type {
            request = request.header("content-type", content_type);
        }
        let mut body = self.body.clone();
        if self.case.way == Way::Grpc {
            request = request.header("te", "trailers");
            let length = u32::try_from(body.len()).expect("a message under 4 GiB");
            let mut frame = vec![u8::from(self.compressed)];
            frame.extend(length.to_be_bytes());
            frame.extend_from_slice(&body);
            body = frame.into();
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request
            .body(Full::new(body))
            .expect("the suite's request is well formed")
    }
}

impl Server {
    /// A foreign server, at these addresses.
    pub(crate) fn foreign(addresses: HashMap<Situation, Address>) -> std::io::Result<Self> {
        Ok(Self {
            runtime: Runtime::new()?,
            kind: Kind::Foreign(addresses),
            large: Mutex::default(),
        })
    }

    /// Our real binary, which is started at the first request.
    pub(crate) fn ours() -> std::io::Result<Self> {
        Ok(Self {
            runtime: Runtime::new()?,
            kind: Kind::Ours(Mutex::default()),
            large: Mutex::default(),
        })
    }

    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Ours(_))
    }

    /// # Errors
    /// Not judged, if no foreign server is named for this situation.
    pub(crate) fn address(&self, situation: Situation) -> Result<Address, Fault> {
        match &self.kind {
            Kind::Foreign(addresses) => {
                let found = addresses.get(&situation).cloned();
                found.ok_or_else(|| Fault::NotJudged(format!("no {situation:?} address was given")))
            }
            Kind::Ours(ours) => {
                let mut ours = ours.lock().expect("no holder panics");
                Ok(ours.address(situation, &self.runtime))
            }
        }
    }

    /// The address for calls of that kind.
    ///
    /// # Errors
    /// Not judged, if no such address is known.
    pub(crate) fn url(&self, case: Case, situation: Situation) -> Result<Uri, Fault> {
        let address = self.address(situation)?;
        match case.way {
            Way::Protobuf | Way::Json => Ok(address.http),
            Way::Grpc => {
                let missing = || Fault::NotJudged("no gRPC address was given".to_owned());
                address.grpc.ok_or_else(missing)
            }
        }
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs in the background for as long as the server is judged.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }

    /// Ensures that no other large request is in flight while the guard is held: a server may refuse two at once for
    /// lack of memory.
    pub(crate) fn alone(&self) -> MutexGuard<'_, ()> {
        self.large.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the request on a new connection.
    ///
    /// # Errors
    /// If no whole answer arrives.
    pub(crate) fn reply(&self, call: &Call) -> Result<Reply, Fault> {
        let url = self.url(call.case, call.situation)?;
        let reply = self.block_on(async {
            let mut connection = Connection::open(&url, call.version).await?;
            connection.send(call.request(&url)).await
        });
        Ok(reply?)
    }

    /// As [`Self::reply`], parsed as OTLP.
    ///
    /// # Errors
    /// If no answer arrives, or one that does not have the protocol's form.
    pub(crate) fn answer(&self, call: &Call) -> Result<Answer, Fault> {
        Ok(Answer::read(self.reply(call)?, call.case)?)
    }

    /// The request must be accepted completely; our own server must then have exactly that many rows with the mark.
    ///
    /// # Errors
    /// The observation, if it differs.
    pub(crate) fn takes(&self, call: &Call, mark: &Mark, rows: usize) -> Verdict {
        self.kept(call, mark, rows).map(|_| ())
    }

    /// As [`Self::takes`], with the rows of our own server; none of a foreign one's.
    ///
    /// # Errors
    /// The observation, if it differs.
    pub(crate) fn kept(
        &self,
        call: &Call,
        mark: &Mark,
        rows: usize,
    ) -> Result<Vec<serde_json::Value>, Fault> {
        let answer = self.answer(call)?;
        ensure(answer.took_all(), || answer.seen())?;
        self.rows(call.situation, mark, rows)
    }

    /// For rules on what is kept after acceptance: a foreign server's store cannot be read.
    ///
    /// # Errors
    /// Not judged, unless the server is ours.
    pub(crate) fn shows_what_it_keeps(&self) -> Verdict {
        if self.is_ours() {
            return Ok(());
        }
        Err(Fault::NotJudged(
            "it takes it; what it keeps is not looked at".to_owned(),
        ))
    }

    /// The rows of our own server with the mark, which must be that many; none of a foreign one's.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub(crate) fn rows(
        &self,
        situation: Situation,
        mark: &Mark,
        rows: usize,
    ) -> Result<Vec<serde_json::Value>, Fault> {
        let Kind::Ours(ours) = &self.kind else {
            return Ok(Vec::new());
        };
        let base = ours
            .lock()
            .expect("no holder panics")
            .main(situation, &self.runtime);
        let found = self.block_on(Ours::rows(&base, mark, rows))?;
        ensure(found.len() == rows, || {
            format!("{rows} rows should be stored, and {} are", found.len())
        })?;
        Ok(found)
    }
}
