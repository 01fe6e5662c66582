//! A future that runs to its end even if its caller stops waiting for it.
//!
//! It runs within its caller, so that a request whose client waits costs no task and no further wake-up. Only if the
//! caller drops it, because the client disconnected or a deadline passed, it goes on as a task.
//!
//! **Invariant:** after the first poll, the future is dropped only once it has ended or panicked, or if the runtime
//! shuts down.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// The future; `None` once it has ended or panicked.
pub(super) struct Uninterrupted<F: Future<Output: Send> + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future<Output: Send> + Send + 'static> Uninterrupted<F> {
    pub(super) fn new(future: F) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Uninterrupted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut future = self.0.take().expect("it is not polled after its end");
        // If this panics, the future is dropped here: it cannot go on.
        let result = future.as_mut().poll(context);
        if result.is_pending() {
            self.0 = Some(future);
        }
        result
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Uninterrupted<F> {
    fn drop(&mut self) {
        if let Some(future) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::Uninterrupted;

    #[tokio::test]
    async fn a_future_whose_caller_waits_ends_within_it() {
        let future = Uninterrupted::new(async { 1 });
        assert_eq!(future.now_or_never(), Some(1));
    }

    #[tokio::test]
    async fn a_future_whose_caller_leaves_goes_on_as_a_task() {
        for is_polled in [true, false] {
            let (answer, answered) = oneshot::channel();
            let (done, is_done) = oneshot::channel();
            let mut future = Uninterrupted::new(async {
                let answer = answered.await;
                let _ = done.send(answer);
            });
            if is_polled {
                assert!((&mut future).now_or_never().is_none());
            }
            drop(future);
            answer.send(7).expect("the future waits for it");
            let done = timeout(Duration::from_secs(60), is_done).await;
            assert_eq!(done.expect("in time").expect("it has ended"), Ok(7));
        }
    }

    #[tokio::test]
    async fn a_future_that_panics_is_not_begun_again() {
        let mut future = Uninterrupted::new(async { panic!("as a test does") });
        let polled = std::panic::AssertUnwindSafe(&mut future).catch_unwind();
        assert!(polled.await.is_err());
        assert!(future.0.is_none());
    }
}
