//! The ends of the pages of recent searches, so that a repeated search reads no more than its page.
//!
//! Events that are stored later can only move the end of a page of the newest events forward. So the same search soon
//! after finds all of its page from the old end on, in one slice.
//!
//! **Invariant:** a known end decides only which slice is searched first.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::query::cursor::SortOrder;
use crate::query::days::{Days, Slice, day_start};
use crate::query::page::ResultPage;
use crate::query::search::Search;

/// Maximum number of known ends; then all are forgotten.
const KNOWN: usize = 256;

/// Maximum length of the texts of a search that is kept.
const SEARCH_BYTES: usize = 1024;

/// The end of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageEnd {
    /// The page was not full.
    BeginOfTable,
    At {
        /// The time of the page's last event.
        timestamp_ms: i64,
        /// The day in which the first event of the page was received.
        day_us: i64,
    },
}

#[derive(Default)]
pub(super) struct PageEnds(Mutex<HashMap<Search, PageEnd>>);

impl PageEnds {
    /// Returns the slice that had the page of this search the last time.
    pub(super) fn slice(&self, search: &Search) -> Option<Slice> {
        Some(match *self.known().get(search)? {
            PageEnd::BeginOfTable => Slice::of(Days::ALL),
            PageEnd::At {
                timestamp_ms,
                day_us,
            } => Slice {
                from_ms: Some(timestamp_ms),
                ..Slice::of(Days {
                    from: Some(day_us),
                    to: None,
                })
            },
        })
    }

    /// Keeps the end of a page that was searched by slices, if the same search can be expected to have the same end.
    pub(super) fn learn(&self, search: &Search, page: &ResultPage, wanted: usize) {
        let is_repeated = search.order == SortOrder::NewestFirst && !search.is_bounded();
        if !is_repeated || search.offset > 0 || search.text_bytes() > SEARCH_BYTES {
            return;
        }
        let end = match page.events.get(wanted - 1) {
            Some(last) => {
                let received = page.events[..wanted].iter().map(|event| event.received_us);
                PageEnd::At {
                    timestamp_ms: last.key.timestamp,
                    day_us: day_start(received.min().unwrap_or_default()),
                }
            }
            None if page.more => return,
            None => PageEnd::BeginOfTable,
        };
        let mut known = self.known();
        if known.len() >= KNOWN && !known.contains_key(search) {
            known.clear();
        }
        known.insert(search.clone(), end);
    }

    pub(super) fn forget(&self, search: &Search) {
        self.known().remove(search);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Search, PageEnd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{KNOWN, PageEnds, SEARCH_BYTES};
    use crate::query::cursor::{PageKey, SortOrder};
    use crate::query::days::{DAY_US, Days, Slice};
    use crate::query::filter::{Filter, Quantity, TextColumn};
    use crate::query::page::{FoundEvent, ResultPage};
    use crate::query::search::Search;

    fn search(name: &str) -> Search {
        Search {
            filters: vec![Filter::Equal(TextColumn::Name, name.to_owned())],
            order: SortOrder::NewestFirst,
            limit: 1,
            offset: 0,
            after: None,
        }
    }

    fn page(events: &[(i64, i64)]) -> ResultPage {
        let event = |(timestamp, received_us): &(i64, i64)| {
            FoundEvent::of(
                PageKey {
                    timestamp: *timestamp,
                    id: 0,
                },
                *received_us,
            )
        };
        ResultPage {
            events: events.iter().map(event).collect(),
            more: false,
        }
    }

    #[test]
    fn the_slice_of_a_page_has_each_of_its_events() {
        let ends = PageEnds::default();
        assert_eq!(ends.slice(&search("a")), None);
        ends.learn(
            &search("a"),
            &page(&[(90, 3 * DAY_US + 5), (80, DAY_US + 7), (1, 0)]),
            2,
        );
        let expected = Slice {
            from_ms: Some(80),
            ..Slice::of(Days {
                from: Some(DAY_US),
                to: None,
            })
        };
        assert_eq!(ends.slice(&search("a")), Some(expected));
        assert_eq!(ends.slice(&search("b")), None);
        ends.forget(&search("a"));
        assert_eq!(ends.slice(&search("a")), None);
    }

    #[test]
    fn a_page_that_is_not_full_has_the_whole_table() {
        let ends = PageEnds::default();
        ends.learn(&search("a"), &page(&[(90, 5)]), 2);
        assert_eq!(ends.slice(&search("a")), Some(Slice::of(Days::ALL)));
        // It was cut at the bytes of an answer, so its end says nothing.
        let cut = ResultPage {
            more: true,
            ..page(&[(90, 5)])
        };
        ends.learn(&search("b"), &cut, 2);
        assert_eq!(ends.slice(&search("b")), None);
    }

    #[test]
    fn only_short_searches_for_the_newest_events_are_kept_and_not_many() {
        let ends = PageEnds::default();
        let kept = search("a");
        let oldest_first = Search {
            order: SortOrder::OldestFirst,
            ..kept.clone()
        };
        let mut bounded = kept.clone();
        bounded.filters.push(Filter::AtLeast(Quantity::Time, 5));
        let second_page = Search {
            after: Some(PageKey {
                timestamp: 5,
                id: 5,
            }),
            ..kept.clone()
        };
        let long = search(&"x".repeat(SEARCH_BYTES + 1));
        for other in [oldest_first, bounded, second_page, long] {
            ends.learn(&other, &page(&[]), 2);
            assert_eq!(ends.slice(&other), None, "{other:?}");
        }
        for n in 0..=KNOWN {
            ends.learn(&search(&n.to_string()), &page(&[]), 2);
        }
        assert_eq!(ends.slice(&search("0")), None);
        assert!(ends.slice(&search(&KNOWN.to_string())).is_some());
    }
}
