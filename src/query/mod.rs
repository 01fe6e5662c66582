//! Parameters to SQL to a page of events: the same answers from both stores.
//!
//! `uri -> parameters -> filter, sql -> postgres | sqlite -> page -> JSON | OTLP`
//!
//! **Invariant:** no byte of a request becomes part of a statement's text; all values are bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use axum::routing::get;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::memory::Shares;
use crate::observe::metrics::QUERY_SECONDS;
use crate::observe::own_traces::spans::{self, System};
use crate::observe::own_traces::traced;
use crate::store::Store;

/// Query strings to names and values, and back.
mod uri;

/// Names and values to a search.
mod parameters;

/// Times and durations as text.
mod time;

/// Where a page ends.
mod cursor;

/// One condition on events.
mod filter;

/// Statements, for both stores.
mod sql;

/// A pool's connection for one query.
mod lease;

/// Days of receipt, to search range by range.
mod days;

/// A search in PostgreSQL.
mod postgres;

/// A search in SQLite.
mod sqlite;

/// Rows to JSON.
mod page;

/// A page as it was asked for.
mod format;

/// A page on its way to a client.
mod sending;

/// Why there is no page.
mod error;

use cursor::Order;
use error::QueryError;
use format::{Format, Written};
use page::{Event, Page};
use parameters::Search;

/// Settings of queries.
#[derive(Clone, Debug)]
pub struct Options {
    pub limit_default: u32,
    pub limit_max: u32,
    pub offset_max: u32,
    pub filters_max: usize,
    pub timeout: Duration,
    /// Queries at once; the next are 503.
    pub concurrency: usize,
    /// A page that would be larger is cut at whole events, at least one.
    pub answer_bytes: usize,
    /// All answers together: [`crate::memory::Shares`].
    pub memory_bytes: usize,
    /// So many of the newest rows are looked through in PostgreSQL before its block ranges are asked.
    pub window_rows: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limit_default: 100,
            limit_max: 10_000,
            offset_max: 100_000,
            filters_max: 20,
            timeout: Duration::from_secs(30),
            concurrency: 8,
            answer_bytes: 32 << 20,
            memory_bytes: Shares::of(None).query_bytes,
            window_rows: 20_000,
        }
    }
}

impl Options {
    /// The largest answer that fits the memory of all answers, while it is written too.
    #[must_use]
    pub const fn answer_bytes_max(&self) -> usize {
        self.memory_bytes / 2
    }
}

/// Up to so many resources that a query's conditions hold for are listed in its statement.
const RESOURCES_LISTED: i64 = 1000;

/// `GET /query`, `GET /query/{id}`, `GET /traces/{traceId}`; each in JSON of our own, or as OTLP.
pub fn router(store: Store, options: Options) -> Router {
    let queries = Queries {
        store,
        slots: Arc::new(Semaphore::new(options.concurrency)),
        options: Arc::new(options),
    };
    Router::new()
        .route("/query", get(query))
        .route("/query/{id}", get(event))
        .route("/traces/{traceId}", get(trace))
        .with_state(queries)
        .layer(axum::middleware::map_response(varies))
}

/// Whatever is answered, another `Accept` might have been answered otherwise (RFC 9110, section 12.5.5).
async fn varies(mut response: Response) -> Response {
    let accept = HeaderValue::from_static("Accept");
    response.headers_mut().append(header::VARY, accept);
    response
}

#[derive(Clone)]
struct Queries {
    store: Store,
    options: Arc<Options>,
    slots: Arc<Semaphore>,
}

async fn query(
    State(queries): State<Queries>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, QueryError> {
    let started = Instant::now();
    let pairs = uri::pairs(uri.query().unwrap_or_default())?;
    let search = Search::of_query(&pairs, &queries.options)?;
    let format = match format::form(&pairs, &headers)? {
        Some(form) => Format::Otlp(search.signal()?, form),
        None => Format::Json,
    };
    let order = search.order;
    let done = async {
        let (page, slot) = queries.page(search).await?;
        let written = queries.write(page, order, format).await?;
        Ok::<_, QueryError>((written, slot))
    };
    let done = done.await;
    record("/query", started);
    let (written, slot) = done?;
    Ok(answer(written, order, &uri, &pairs, slot))
}

async fn trace(
    State(queries): State<Queries>,
    trace_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, QueryError> {
    let started = Instant::now();
    let trace_id = path_text("traceId", trace_id)?;
    let pairs = uri::pairs(uri.query().unwrap_or_default())?;
    let mut search = Search::of_trace(&trace_id, &pairs, &queries.options)?;
    let format = match format::form(&pairs, &headers)? {
        Some(form) => Format::Otlp(search.spans_alone(), form),
        None => Format::Json,
    };
    let order = search.order;
    let done = async {
        let (mut page, slot) = queries.page(search).await?;
        if format == Format::Json {
            page.order_by_nanosecond(order);
        }
        let written = queries.write(page, order, format).await?;
        Ok::<_, QueryError>((written, slot))
    };
    let done = done.await;
    record("/traces/{traceId}", started);
    let (written, slot) = done?;
    Ok(answer(written, order, &uri, &pairs, slot))
}

async fn event(
    State(queries): State<Queries>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, QueryError> {
    let started = Instant::now();
    let id = path_text("id", id)?;
    let id = id
        .parse()
        .map_err(|_| QueryError::parameter("id", "id must be a whole number"))?;
    let pairs = uri::pairs(uri.query().unwrap_or_default())?;
    if let Some((name, _)) = pairs.iter().find(|(name, _)| name != "format") {
        return Err(QueryError::parameter(
            name,
            "an event by its id takes no parameter but format",
        ));
    }
    let form = format::form(&pairs, &headers)?;
    let done = async {
        let (event, slot) = queries.event(id).await?;
        let Some(form) = form else {
            return Ok((Written::event(event), slot));
        };
        let format = Format::Otlp(format::signal(&event)?, form);
        let page = Page {
            events: vec![event],
            more: false,
        };
        let written = queries.write(page, Order::NewestFirst, format).await?;
        Ok::<_, QueryError>((written, slot))
    };
    let done = done.await;
    record("/query/{id}", started);
    let (written, slot) = done?;
    Ok(written.response(slot))
}

fn path_text(
    parameter: &str,
    text: Result<Path<String>, PathRejection>,
) -> Result<String, QueryError> {
    match text {
        Ok(Path(text)) if !text.contains('\0') => Ok(text),
        _ => Err(QueryError::parameter(
            parameter,
            format!("{parameter} must be UTF-8 without NUL, percent-encoded where it must be"),
        )),
    }
}

fn record(route: &'static str, started: Instant) {
    metrics::histogram!(QUERY_SECONDS, "route" => route).record(started.elapsed());
}

impl Queries {
    /// The page of a search, and the slot that its sending keeps.
    async fn page(&self, search: Search) -> Result<(Page, OwnedSemaphorePermit), QueryError> {
        let slot = self.slot()?;
        let limit = search.limit as usize;
        let found = async {
            match &self.store {
                Store::Postgres(store) => {
                    postgres::search(&store.read_pool, search, &self.options).await
                }
                Store::Sqlite(store) => {
                    sqlite::search(&store.read_pool, search, &self.options).await
                }
            }
        };
        let selecting = spans::statement(System::of(&self.store), "SELECT", "telemetry_events");
        let mut page = traced(selecting, self.in_time(found)).await?;
        page.cut(limit, self.options.answer_bytes);
        Ok((page, slot))
    }

    async fn event(&self, id: i64) -> Result<(Event, OwnedSemaphorePermit), QueryError> {
        let slot = self.slot()?;
        let found = async {
            match &self.store {
                Store::Postgres(store) => {
                    postgres::event(&store.read_pool, id, &self.options).await
                }
                Store::Sqlite(store) => sqlite::event(&store.read_pool, id, &self.options).await,
            }
        };
        let selecting = spans::statement(System::of(&self.store), "SELECT", "telemetry_events");
        let event = traced(selecting, self.in_time(found)).await?;
        let event = event.ok_or(QueryError::NoSuchEvent(id))?;
        Ok((event, slot))
    }

    async fn write(&self, page: Page, order: Order, format: Format) -> Result<Written, QueryError> {
        format.write(page, order, self.options.answer_bytes).await
    }

    /// A slot among the queries that run at once; given back when dropped, so also when the client leaves.
    fn slot(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| QueryError::Busy(self.options.concurrency))
    }

    async fn in_time<T>(
        &self,
        found: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        tokio::time::timeout(self.options.timeout, found)
            .await
            .unwrap_or(Err(QueryError::Timeout(self.options.timeout)))
    }
}

/// The answer, with the link to the next page where there may be one.
fn answer(
    written: Written,
    order: Order,
    uri: &Uri,
    pairs: &[(String, String)],
    slot: OwnedSemaphorePermit,
) -> Response {
    let link = written
        .next
        .and_then(|after| next_link(uri.path(), pairs, &cursor::encode(order, after)));
    let mut response = written.response(slot);
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// `Link: <…>; rel="next"` (RFC 8288): the request as it was, from where the page ended.
fn next_link(path: &str, pairs: &[(String, String)], cursor: &str) -> Option<HeaderValue> {
    let mut target = path.to_owned();
    for (name, value) in pairs {
        if name != "cursor" && name != "offset" {
            uri::push_pair(&mut target, name, value);
        }
    }
    uri::push_pair(&mut target, "cursor", cursor);
    HeaderValue::try_from(format!("<{target}>; rel=\"next\"")).ok()
}
