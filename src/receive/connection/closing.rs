//! Decides the next step of a connection: to wait, to close, or to be cut off.
//!
//! **Invariant:** a connection is closed between requests, never within one that makes progress: only its deadline cuts
//! a request off.

use std::time::Duration;

use tokio::time::Instant;

use crate::receive::connection::tracked_stream::Activity;

/// Time that a closing connection has for a last request.
///
/// At a stop it is for the first request of a new connection, for the rest of a head that has begun to arrive, and for
/// the connections in the queue to get a slot. At the end of the idle time it is for a request that has arrived unread.
pub(crate) const LAST_HEADS: Duration = Duration::from_secs(1);
/// Interval at which a closing connection checks for such a request.
pub(crate) const HEAD_AGAIN: Duration = Duration::from_millis(20);

/// The state of closing a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Closing {
    No,
    /// At this time at the latest, the protocol is asked to close. Until then a request whose head is expected or has
    /// begun to arrive is still served.
    Soon(Instant),
    /// The protocol was asked to close. HTTP/1 closes at once or after the answer. HTTP/2 closes once the client has
    /// acknowledged, so that calls which crossed the announcement are served. If no request is in flight at this time,
    /// the connection is closed without the client's part.
    Asked(Instant),
}

/// The way in which HTTP ended on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// In order, or by an error that the client caused.
    Closed,
    /// By this process, because the client is too slow.
    Cut,
}

/// The next step of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing until this time.
    Wait(Instant),
    /// The idle time is over: the connection closes after [`LAST_HEADS`], or after a request that arrives meanwhile.
    CloseSoon,
    /// The protocol is asked to close.
    AskToClose,
    End(ConnectionEnd),
}

/// Decides the next step at `now` of a connection with this activity, which must end by `deadline`.
pub(crate) fn step(closing: Closing, activity: Activity, deadline: Instant, now: Instant) -> Step {
    use Activity::{Busy, Fresh, Head, Idle, Unread};
    match (closing, activity) {
        (Closing::No, Idle | Unread) if deadline <= now => Step::CloseSoon,
        (_, Fresh | Head | Busy) if deadline <= now => Step::End(ConnectionEnd::Cut),
        (Closing::No, _) => Step::Wait(deadline),
        (Closing::Soon(by), Fresh | Head | Unread) if now < by => {
            Step::Wait(by.min(now + HEAD_AGAIN))
        }
        (Closing::Soon(_), _) => Step::AskToClose,
        (Closing::Asked(_), Busy) => Step::Wait(deadline),
        (Closing::Asked(by), _) if now < by => Step::Wait(by),
        // It was idle, and its client does not acknowledge: the client is gone or hangs.
        (Closing::Asked(_), Idle | Unread) => Step::End(ConnectionEnd::Closed),
        (Closing::Asked(_), Fresh | Head) => Step::End(ConnectionEnd::Cut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_closing_and_each_activity_has_its_next_step() {
        use Activity::{Busy, Fresh, Head, Idle, Unread};
        const CLOSED: Step = Step::End(ConnectionEnd::Closed);
        const CUT: Step = Step::End(ConnectionEnd::Cut);
        let now = Instant::now() + Duration::from_secs(60);
        let past = now - Duration::from_secs(5);
        let soon = now + Duration::from_secs(1);
        let later = now + Duration::from_secs(5);
        let (no, asked) = (Closing::No, Closing::Asked);
        let closing_soon = Closing::Soon;
        let again = Step::Wait(now + HEAD_AGAIN);
        for (closing, activity, deadline, expected) in [
            (no, Fresh, later, Step::Wait(later)),
            (no, Head, later, Step::Wait(later)),
            (no, Busy, later, Step::Wait(later)),
            (no, Idle, later, Step::Wait(later)),
            (no, Fresh, past, CUT),
            (no, Head, past, CUT),
            (no, Busy, past, CUT),
            (no, Idle, now, Step::CloseSoon),
            // A request whose head is expected or has begun to arrive is waited for, an idle connection is not.
            (closing_soon(soon), Fresh, later, again),
            (closing_soon(soon), Head, later, again),
            (closing_soon(soon), Unread, past, again),
            (
                closing_soon(now + HEAD_AGAIN / 2),
                Head,
                later,
                Step::Wait(now + HEAD_AGAIN / 2),
            ),
            (closing_soon(soon), Idle, past, Step::AskToClose),
            (closing_soon(soon), Busy, later, Step::AskToClose),
            (closing_soon(now), Fresh, later, Step::AskToClose),
            (closing_soon(now), Unread, past, Step::AskToClose),
            (closing_soon(soon), Head, past, CUT),
            (closing_soon(soon), Busy, past, CUT),
            // A request in flight is finished, however long ago the protocol was asked.
            (asked(past), Busy, later, Step::Wait(later)),
            (asked(past), Busy, past, CUT),
            (asked(soon), Idle, past, Step::Wait(soon)),
            (asked(soon), Head, later, Step::Wait(soon)),
            (asked(past), Idle, past, CLOSED),
            (asked(past), Unread, past, CLOSED),
            (asked(past), Fresh, later, CUT),
            (asked(past), Head, later, CUT),
        ] {
            let step = step(closing, activity, deadline, now);
            assert_eq!(step, expected, "{closing:?} {activity:?}");
        }
    }
}
