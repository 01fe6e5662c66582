//! The read API: parameters become SQL, and rows become a page of events, the same from both stores.
//!
//! `uri -> parameters -> filter, statement -> postgres | sqlite -> page -> JSON | OTLP`
//!
//! **Invariant:** no byte of a request becomes part of a statement's text; all values are bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use tokio::sync::Semaphore;

use crate::memory::MemoryShares;
use crate::store::{self, Store};
use crate::telemetry::metrics::QUERY_SECONDS;
use crate::telemetry::own_traces::SpanAttributes;
use crate::telemetry::own_traces::spans;
use crate::telemetry::own_traces::traced;

/// Conversion of query strings to names and values, and back.
mod query_string;

/// Conversion of names and values to a search.
mod parameters;

/// Parsing and printing of times and durations.
mod time_text;

/// The cursor, which identifies the end of a page.
mod cursor;

/// One condition on events.
mod filter;

/// A search for one page of events.
mod search;

/// A statement that is being written, with its bound values.
mod statement;

/// The statements of searches, for both stores.
mod select;

/// Numbers of events, errors and percentiles, by columns and time.
mod aggregate;

/// The memory budget of answers.
mod answer_memory;

/// Ranges of days of receipt, searched one after another.
mod days;

/// Guesses of the day of an event by its id.
mod first_ids;

/// A search that several statements answer.
mod rest_of_search;

/// The slices of a search that are left.
mod slice_queue;

/// The ends of the pages of recent searches.
mod page_ends;

/// The statements of windows and slices, for PostgreSQL.
mod slice_statements;

/// A search in PostgreSQL, by windows and slices.
mod sliced_search;

/// A query in PostgreSQL.
mod postgres;

/// A search in SQLite.
mod sqlite;

/// Conversion of rows to JSON.
mod page;

/// The format of an answer.
mod answer_format;

/// The body of an answer, which holds the query's slot and memory until it is sent.
mod slot_body;

/// The errors of queries.
mod error;

pub(crate) use aggregate::aggregate;
use aggregate::groups::EventGroups;
use aggregate::{Aggregation, Counted};
use answer_format::{AnswerFormat, WrittenAnswer};
use answer_memory::{AnswerGrant, AnswerMemory};
use cursor::SortOrder;
use error::QueryError;
use first_ids::FirstIds;
use page::ResultPage;
use page_ends::PageEnds;
use search::{Lookup, Search};

/// Settings of queries.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of events in a page if the request has no `limit`.
    pub limit_default: u32,
    /// Maximum value of `limit`.
    pub limit_max: u32,
    /// Maximum value of `offset`.
    pub offset_max: u32,
    /// Maximum number of filters in a query.
    pub filters_max: usize,
    /// Maximum time until all rows are read.
    pub timeout: Duration,
    /// Maximum number of concurrent queries; further ones are answered 503.
    pub concurrency: usize,
    /// Maximum size of a page. A larger one is cut at whole events, with at least one.
    pub answer_bytes: usize,
    /// Maximum memory of all answers together: [`crate::memory::MemoryShares`].
    pub memory_bytes: usize,
    /// Number of the newest rows that are searched in PostgreSQL before its block ranges are used.
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
            memory_bytes: MemoryShares::of(None).query_bytes,
            window_rows: 5_000,
        }
    }
}

impl Options {
    /// Returns the size of the largest answer that fits the memory of all answers, also while it is written.
    #[must_use]
    pub const fn answer_bytes_max(&self) -> usize {
        answer_memory::answer_bytes_max(self.memory_bytes)
    }
}

/// Longest wait of a query for a connection, and of a connection for the end of its transaction. It is shorter than the
/// query's timeout, so that an unavailable database is answered within seconds.
const CONNECTION_WAIT: Duration = Duration::from_secs(3);

/// Maximum number of matching resources that are listed in a query's statement.
const RESOURCES_LISTED: i64 = 1000;

/// Whatever is answered, another `Accept` might have been answered otherwise (RFC 9110, section 12.5.5).
pub(crate) async fn vary_by_accept(mut response: Response) -> Response {
    let accept = HeaderValue::from_static("Accept");
    response.headers_mut().append(header::VARY, accept);
    response
}

/// The state that the handlers of queries share.
#[derive(Clone)]
pub struct Queries {
    store: Store,
    options: Arc<Options>,
    /// One permit for each concurrent query.
    slots: Arc<Semaphore>,
    memory: Arc<AnswerMemory>,
    first_ids: Arc<FirstIds>,
    page_ends: Arc<PageEnds>,
}

impl Queries {
    /// Asks `store` under the limits of `options`.
    #[must_use]
    pub fn new(store: Store, options: Options) -> Self {
        Self {
            store,
            slots: Arc::new(Semaphore::new(options.concurrency)),
            memory: Arc::new(AnswerMemory::new(&options)),
            first_ids: Arc::default(),
            page_ends: Arc::default(),
            options: Arc::new(options),
        }
    }
}

/// `GET /query`.
pub(crate) async fn events(
    State(queries): State<Queries>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, QueryError> {
    let pairs = query_string::pairs(uri.query().unwrap_or_default())?;
    if let Some(search) = Search::of_count(&pairs, &queries.options)? {
        return aggregate::count(queries, search).await;
    }
    let search = Search::of_query(&pairs, &queries.options)?;
    let format = match answer_format::form(&pairs, &headers)? {
        Some(form) => AnswerFormat::Otlp(search.signal()?, form),
        None => AnswerFormat::Json,
    };
    let order = search.order;
    let written = timed("/query", async {
        let (page, held) = queries.find(Lookup::Page(search)).await?;
        queries.write(page, order, format, held).await
    });
    Ok(answer(written.await?, order, &uri, &pairs))
}

/// `GET /traces/{traceId}`.
pub(crate) async fn trace(
    State(queries): State<Queries>,
    trace_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, QueryError> {
    let trace_id = path_text("traceId", trace_id)?;
    let pairs = query_string::pairs(uri.query().unwrap_or_default())?;
    let mut search = Search::of_trace(&trace_id, &pairs, &queries.options)?;
    let format = match answer_format::form(&pairs, &headers)? {
        Some(form) => AnswerFormat::Otlp(search.spans_alone(), form),
        None => AnswerFormat::Json,
    };
    let order = search.order;
    let written = timed("/traces/{traceId}", async {
        let (mut page, held) = queries.find(Lookup::Page(search)).await?;
        if format == AnswerFormat::Json {
            page.order_by_nanosecond(order);
        }
        queries.write(page, order, format, held).await
    });
    Ok(answer(written.await?, order, &uri, &pairs))
}

/// `GET /query/{id}`.
pub(crate) async fn event(
    State(queries): State<Queries>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, QueryError> {
    let id = path_text("id", id)?;
    let id = id
        .parse()
        .map_err(|_| QueryError::parameter("id", "id must be a whole number"))?;
    let pairs = query_string::pairs(uri.query().unwrap_or_default())?;
    if let Some((name, _)) = pairs.iter().find(|(name, _)| name != "format") {
        let reason = "an event by its id accepts no parameter but format";
        return Err(QueryError::parameter(name, reason));
    }
    let form = answer_format::form(&pairs, &headers)?;
    let written = timed("/query/{id}", async {
        let (page, held) = queries.find(Lookup::Event(id)).await?;
        let event = page.events.first().ok_or(QueryError::NoSuchEvent(id))?;
        let format = match form {
            Some(form) => AnswerFormat::Otlp(answer_format::signal(event)?, form),
            None => AnswerFormat::JsonEvent,
        };
        let order = SortOrder::NewestFirst;
        queries.write(page, order, format, held).await
    });
    Ok(written.await?.response())
}

fn path_text(
    parameter: &str,
    text: Result<Path<String>, PathRejection>,
) -> Result<String, QueryError> {
    match text {
        Ok(Path(text)) if !text.contains('\0') => Ok(text),
        _ => Err(QueryError::parameter(
            parameter,
            format!("{parameter} must be UTF-8 without NUL, and percent-encoded"),
        )),
    }
}

/// Records the time that a query and the writing of its answer take, also if they fail.
async fn timed<T>(route: &'static str, answering: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let answered = answering.await;
    metrics::histogram!(QUERY_SECONDS, "route" => route).record(started.elapsed());
    answered
}

impl Queries {
    /// Finds events in the store. The slot and the memory that they hold until they are sent are released together,
    /// also if the client disconnects.
    ///
    /// # Errors
    /// [`QueryError::Busy`] if no slot is free, and every error of the store.
    async fn find(&self, lookup: Lookup) -> Result<(ResultPage, AnswerGrant), QueryError> {
        let mut held = self.begin()?;
        let page = self.in_time(Box::pin(async {
            match &self.store {
                Store::Postgres(store) => self.reader(store).find(lookup, &mut held).await,
                Store::Sqlite(store) => {
                    sqlite::find(&store.read_pool, lookup, &self.options, &mut held).await
                }
            }
        }));
        Ok((page.await?, held))
    }

    /// Reads the groups of an aggregation, under the same limits as [`Self::find`].
    ///
    /// # Errors
    /// As [`Self::find`].
    async fn groups(
        &self,
        aggregation: Aggregation,
    ) -> Result<(EventGroups, AnswerGrant), QueryError> {
        let mut held = self.begin()?;
        let groups = self.in_time(Box::pin(async {
            match &self.store {
                Store::Postgres(store) => self.reader(store).groups(aggregation, &mut held).await,
                Store::Sqlite(store) => {
                    aggregate::sqlite::groups(
                        &store.read_pool,
                        aggregation,
                        &self.options,
                        &mut held,
                    )
                    .await
                }
            }
        }));
        Ok((groups.await?, held))
    }

    /// Counts the events of a search, under the same limits as [`Self::find`].
    ///
    /// # Errors
    /// As [`Self::find`].
    async fn count(&self, search: Search) -> Result<Counted, QueryError> {
        let mut held = self.begin()?;
        let counted = self.in_time(Box::pin(async {
            match &self.store {
                Store::Postgres(store) => self.reader(store).count(search, &mut held).await,
                Store::Sqlite(store) => {
                    aggregate::sqlite::count(&store.read_pool, search, &self.options).await
                }
            }
        }));
        counted.await
    }

    /// Takes the slot of a query.
    ///
    /// # Errors
    /// [`QueryError::Busy`] if none is free.
    fn begin(&self) -> Result<AnswerGrant, QueryError> {
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let slot = slot.map_err(|_| QueryError::Busy(self.options.concurrency))?;
        Ok(self.memory.begin(slot))
    }

    fn reader<'a>(&'a self, store: &'a store::postgres::Postgres) -> postgres::Reader<'a> {
        postgres::Reader {
            pool: &store.read_pool,
            options: &self.options,
            first_ids: &self.first_ids,
            page_ends: &self.page_ends,
        }
    }

    /// Waits for what a query reads from the store, at most for the time of a query.
    async fn in_time<T: SpanAttributes>(
        &self,
        reading: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        let timeout = self.options.timeout;
        let in_time = async {
            match tokio::time::timeout(timeout, reading).await {
                Ok(read) => read.map_err(|error| error.classified(timeout)),
                Err(_) => Err(QueryError::Timeout(timeout)),
            }
        };
        let selecting = spans::statement(self.store.system(), "SELECT", "telemetry_events");
        traced(selecting, in_time).await
    }

    async fn write(
        &self,
        page: ResultPage,
        order: SortOrder,
        format: AnswerFormat,
        held: AnswerGrant,
    ) -> Result<WrittenAnswer, QueryError> {
        let room_bytes = self.options.answer_bytes;
        format.write(page, order, room_bytes, held).await
    }
}

/// Returns the answer, with the link to the next page if there may be one.
fn answer(
    written: WrittenAnswer,
    order: SortOrder,
    uri: &Uri,
    pairs: &[(String, String)],
) -> Response {
    let link = written
        .next
        .and_then(|after| next_link(uri.path(), pairs, &cursor::encode(order, after)));
    let mut response = written.response();
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// Returns `Link: <…>; rel="next"` (RFC 8288): the same request, continued after the end of the page.
fn next_link(path: &str, pairs: &[(String, String)], cursor: &str) -> Option<HeaderValue> {
    let mut target = path.to_owned();
    for (name, value) in pairs {
        if name != "cursor" && name != "offset" {
            query_string::push_pair(&mut target, name, value);
        }
    }
    query_string::push_pair(&mut target, "cursor", cursor);
    HeaderValue::try_from(format!("<{target}>; rel=\"next\"")).ok()
}
