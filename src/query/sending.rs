//! A page on its way to a client.
//!
//! **Invariant:** a query's slot is held until its answer is all but sent, so no more answers are in memory than queries may
//! run, however slowly clients read.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// What a connection takes over at once.
const PIECE_BYTES: usize = 64 << 10;

/// The rest of an answer, with its slot.
struct Sending {
    rest: Bytes,
    slot: Option<OwnedSemaphorePermit>,
}

/// A body that gives `slot` back with its last piece.
pub(super) fn body(answer: Bytes, slot: OwnedSemaphorePermit) -> Body {
    Body::new(Sending {
        rest: answer,
        slot: Some(slot),
    })
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        if self.rest.is_empty() {
            self.slot = None;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;

    use super::{PIECE_BYTES, body};

    #[tokio::test]
    async fn the_slot_is_given_back_with_the_last_piece_or_with_the_client() {
        let slots = Arc::new(Semaphore::new(1));
        let answer = "x".repeat(2 * PIECE_BYTES + 1);
        let slot = Arc::clone(&slots).try_acquire_owned().unwrap();
        let mut sending = body(answer.clone().into(), slot);
        let mut lengths = Vec::new();
        while lengths.len() < 2 {
            let frame = sending.frame().await.unwrap().unwrap();
            lengths.push(frame.into_data().unwrap().len());
            assert_eq!(slots.available_permits(), 0);
        }
        let last = sending.frame().await.unwrap().unwrap();
        lengths.push(last.into_data().unwrap().len());
        assert_eq!(lengths, [PIECE_BYTES, PIECE_BYTES, 1]);
        assert_eq!(slots.available_permits(), 1);
        assert!(sending.frame().await.is_none());

        let slot = Arc::clone(&slots).try_acquire_owned().unwrap();
        drop(body(answer.into(), slot));
        assert_eq!(slots.available_permits(), 1);
    }
}
