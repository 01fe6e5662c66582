//! The body of an answer, sent piece by piece.
//!
//! **Invariant:** the query's slot, and the memory of the unsent rest, are held until the connection has taken the last
//! piece. So the number of answers in memory is bounded by the number of concurrent queries, even if clients read
//! slowly.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use bytes::BytesMut;
use hyper::body::{Frame, SizeHint};

use crate::query::answer_memory::AnswerGrant;

/// Maximum size of a piece that the connection takes at once.
const PIECE_BYTES: usize = 64 << 10;

/// The unsent rest of an answer, with its slot and memory.
struct SlotBody {
    rest: VecDeque<Bytes>,
    rest_bytes: usize,
    /// Bytes of the first part that were sent already; its memory is free only once all of it is sent.
    sent_of_first_bytes: usize,
    held: Option<AnswerGrant>,
}

/// Returns a body of these non-empty parts, which releases `held` piece by piece.
pub(super) fn body(parts: VecDeque<Bytes>, held: AnswerGrant) -> Body {
    Body::new(SlotBody {
        rest_bytes: parts.iter().map(Bytes::len).sum(),
        rest: parts,
        sent_of_first_bytes: 0,
        held: Some(held),
    })
}

impl SlotBody {
    /// Returns the next piece: a slice of a long part, or a copy of several short ones.
    fn next_piece(&mut self) -> Option<Bytes> {
        let first = self.rest.front_mut()?;
        if first.len() >= PIECE_BYTES {
            self.sent_of_first_bytes += PIECE_BYTES;
            return Some(first.split_to(PIECE_BYTES));
        }
        let mut piece = BytesMut::with_capacity(self.rest_bytes.min(PIECE_BYTES));
        while let Some(part) = self.rest.front()
            && piece.len() + part.len() <= PIECE_BYTES
        {
            piece.extend_from_slice(part);
            self.rest.pop_front();
            self.sent_of_first_bytes = 0;
        }
        Some(piece.freeze())
    }
}

impl HttpBody for SlotBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(piece) = self.next_piece() else {
            return Poll::Ready(None);
        };
        self.rest_bytes -= piece.len();
        let kept = self.rest_bytes + self.sent_of_first_bytes;
        if self.rest_bytes == 0 {
            self.held = None;
        } else if let Some(held) = &mut self.held {
            held.keep(kept);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest_bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;

    use super::{Body, Bytes, PIECE_BYTES, body};
    use crate::query::Options;
    use crate::query::answer_memory::AnswerMemory;

    fn sending(slots: &Arc<Semaphore>, parts: &[usize]) -> Body {
        let slot = Arc::clone(slots).try_acquire_owned().unwrap();
        let held = AnswerMemory::new(&Options::default()).begin(slot);
        let part = |length: &usize| Bytes::from("x".repeat(*length));
        body(parts.iter().map(part).collect(), held)
    }

    #[tokio::test]
    async fn the_slot_is_given_back_with_the_last_piece_or_with_the_client() {
        let slots = Arc::new(Semaphore::new(1));
        let mut body = sending(&slots, &[2 * PIECE_BYTES + 1]);
        let mut lengths = Vec::new();
        while lengths.len() < 2 {
            let frame = body.frame().await.unwrap().unwrap();
            lengths.push(frame.into_data().unwrap().len());
            assert_eq!(slots.available_permits(), 0);
        }
        let last = body.frame().await.unwrap().unwrap();
        lengths.push(last.into_data().unwrap().len());
        assert_eq!(lengths, [PIECE_BYTES, PIECE_BYTES, 1]);
        assert_eq!(slots.available_permits(), 1);
        assert!(body.frame().await.is_none());

        drop(sending(&slots, &[PIECE_BYTES * 3]));
        assert_eq!(slots.available_permits(), 1);
    }

    #[tokio::test]
    async fn short_parts_go_together_and_none_is_lost() {
        let slots = Arc::new(Semaphore::new(1));
        let lengths = [1, PIECE_BYTES - 2, 1, 3, PIECE_BYTES, PIECE_BYTES + 7, 5];
        let sent = sending(&slots, &lengths)
            .collect()
            .await
            .unwrap()
            .to_bytes();
        assert_eq!(sent.len(), lengths.iter().sum::<usize>());
        assert_eq!(slots.available_permits(), 1);
    }
}
