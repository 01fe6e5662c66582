//! The server that is judged: any, by its addresses; or our own, which is started for it and asked what it kept.
//!
//! **Invariant:** of a foreign server only its answers are judged; our own has to have stored what it took as well.

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

/// How a server is set up; some rules can be seen only in one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Situation {
    /// By its defaults.
    Plain,
    /// Lets browsers send from [`ORIGIN`], who bear [`TOKEN`], whether it asks for it or not.
    Cors,
    /// Asks for [`TOKEN`].
    Auth,
    /// Cannot take anything for the time being.
    Refusing,
    /// Reads JSON as the specification has it, and no keys in snake_case.
    Strict,
    /// Throws away attributes past the first [`ATTRIBUTES`] of an item.
    Cutting,
}

pub(crate) const ORIGIN: &str = "http://page.example";
pub(crate) const TOKEN: &str = "a-token-of-the-conformance-suite";
pub(crate) const ATTRIBUTES: usize = 8;

/// Where a server is.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub http: Uri,
    pub grpc: Option<Uri>,
}

pub(crate) struct Server {
    runtime: Runtime,
    kind: Kind,
    /// Held while a request is under way that takes much of what a server gives to all of them.
    large: Mutex<()>,
}

enum Kind {
    Foreign(HashMap<Situation, Address>),
    Ours(Mutex<Ours>),
}

/// A request that is about to be sent.
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
    /// gRPC: whether the message is compressed.
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

    /// Those bytes as the body, or as gRPC's message.
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

    /// Says that the body is compressed so; over gRPC that its message is.
    pub(crate) fn said_to_be(self, coding: &str) -> Self {
        let header = match self.case.way {
            Way::Grpc => "grpc-encoding",
            Way::Protobuf | Way::Json => "content-encoding",
        };
        let mut call = self.with_header(header, coding);
        call.compressed = true;
        call
    }

    /// The request's bytes and headers, as they go out to that server.
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
    /// A server of others, at these addresses.
    pub(crate) fn foreign(addresses: HashMap<Situation, Address>) -> std::io::Result<Self> {
        Ok(Self {
            runtime: Runtime::new()?,
            kind: Kind::Foreign(addresses),
            large: Mutex::default(),
        })
    }

    /// The real binary; nothing runs before it is asked.
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
    /// Not judged, when a foreign server is not there set up so.
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

    /// Where calls of that kind go.
    ///
    /// # Errors
    /// Not judged, when no such address is known.
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

    /// Runs beside all else for as long as the server is judged.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }

    /// No other large request is under way while this is held: a server may refuse two at once for want of room.
    pub(crate) fn alone(&self) -> MutexGuard<'_, ()> {
        self.large.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends it on a connection of its own.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub(crate) fn reply(&self, call: &Call) -> Result<Reply, Fault> {
        let url = self.url(call.case, call.situation)?;
        let reply = self.block_on(async {
            let mut connection = Connection::open(&url, call.version).await?;
            connection.send(call.request(&url)).await
        });
        Ok(reply?)
    }

    /// As [`Self::reply`], read as OTLP.
    ///
    /// # Errors
    /// When no answer comes, or one that is not of the protocol's form.
    pub(crate) fn answer(&self, call: &Call) -> Result<Answer, Fault> {
        Ok(Answer::read(self.reply(call)?, call.case)?)
    }

    /// The request must be accepted whole; our own server must then hold just that many rows of the mark.
    ///
    /// # Errors
    /// What was seen instead.
    pub(crate) fn takes(&self, call: &Call, mark: &Mark, rows: usize) -> Verdict {
        self.kept(call, mark, rows).map(|_| ())
    }

    /// As [`Self::takes`], with the rows of our own server; none of a foreign one's.
    ///
    /// # Errors
    /// What was seen instead.
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

    /// For rules on what is kept, once it was accepted: a foreign server's store is not looked into.
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

    /// The rows that our own server holds of the mark, which must be that many; none of a foreign one's.
    ///
    /// # Errors
    /// When there are others.
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
