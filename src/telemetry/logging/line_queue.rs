//! The queue of log lines for the thread that writes them.
//!
//! A full pipe that nobody reads blocks its writers for ever. So one thread alone writes, and the others push their
//! lines to a queue. If the queue is full, the line is dropped and counted.
//!
//! **Invariant:** [`LineQueue::push`] never waits for the reader of the lines, and the lines in memory are bounded.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use metrics::counter;

use crate::telemetry::metrics::LOG_LINES_DROPPED_TOTAL;

/// Maximum number of waiting lines. The thread that writes may hold the same number again.
const MAX_LINES: u64 = 8_192;
/// Maximum number of bytes of waiting lines. The thread that writes may hold the same number again.
const MAX_BYTES: usize = 2 << 20;

/// A queue from many threads to one that writes; clones share it.
#[derive(Clone)]
pub(super) struct LineQueue(Arc<SharedQueue>);

struct SharedQueue {
    state: Mutex<LineQueueState>,
    /// Signals that lines wait.
    filled: Condvar,
    /// Signals that all lines are written.
    emptied: Condvar,
}

#[derive(Default)]
struct LineQueueState {
    waiting: LineBuffer,
    /// The thread is writing lines that it removed from `waiting`.
    is_writing: bool,
    /// Number of lines that were dropped since the last report.
    dropped: u64,
}

/// Whole lines, one after the other.
#[derive(Default)]
struct LineBuffer {
    bytes: Vec<u8>,
    count: u64,
}

impl LineQueue {
    /// Starts the thread that writes to `out`; it ends with the process. `report` logs the number of dropped lines,
    /// once lines are written again.
    ///
    /// # Errors
    /// [`io::Error`] if the system cannot start a thread.
    pub(super) fn start(out: impl Write + Send + 'static, report: fn(u64)) -> io::Result<Self> {
        let queue = Self(Arc::new(SharedQueue {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }));
        let shared = Arc::clone(&queue.0);
        thread::Builder::new()
            .name("log-lines".to_owned())
            .spawn(move || shared.write(out, report))?;
        Ok(queue)
    }

    /// Adds one line, with its end; if the queue is full, the line is dropped and counted.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.lock();
        let waiting = &mut state.waiting;
        if waiting.count >= MAX_LINES || waiting.bytes.len() + line.len() > MAX_BYTES {
            state.dropped += 1;
            drop(state);
            counter!(LOG_LINES_DROPPED_TOTAL).increment(1);
            return;
        }
        waiting.bytes.extend_from_slice(line);
        waiting.count += 1;
        self.0.filled.notify_one();
    }

    /// Waits until all lines are written, at most for `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let state = self.0.lock();
        let _ = self.0.emptied.wait_timeout_while(state, patience, |state| {
            state.is_writing || state.waiting.count > 0
        });
    }
}

impl SharedQueue {
    /// Locks the state. Poisoning is ignored, as a panic within the lock leaves whole lines.
    fn lock(&self) -> MutexGuard<'_, LineQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the thread. Lines that cannot be written (the reader is gone, the disk is full) count as dropped.
    fn write(&self, mut out: impl Write, report: fn(u64)) -> ! {
        let mut lines = LineBuffer::default();
        let mut flows = true;
        loop {
            // The queue is empty now, so the report fits, and follows the lines that precede the dropped ones.
            let dropped = self.take(&mut lines, flows);
            if dropped > 0 {
                report(dropped);
            }
            flows = out
                .write_all(&lines.bytes)
                .and_then(|()| out.flush())
                .is_ok();
            if !flows {
                self.lock().dropped += lines.count;
                counter!(LOG_LINES_DROPPED_TOTAL).increment(lines.count);
            }
        }
    }

    /// Waits for lines, or until a report of dropped lines is due. Exchanges the written `lines` for the waiting ones,
    /// and returns the number of dropped lines to report.
    ///
    /// `flows` means that the last write succeeded; only then is a report due.
    fn take(&self, lines: &mut LineBuffer, flows: bool) -> u64 {
        lines.bytes.clear();
        lines.count = 0;
        let mut state = self.lock();
        state.is_writing = false;
        while state.waiting.count == 0 && !(flows && state.dropped > 0) {
            self.emptied.notify_all();
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        std::mem::swap(&mut state.waiting, lines);
        if flows {
            std::mem::take(&mut state.dropped)
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::{LineQueue, MAX_BYTES, MAX_LINES};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// An output that accepts a piece, or fails, only when the test sends it the result.
    struct Reader {
        began: Sender<()>,
        go_on: Receiver<io::Result<()>>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.began.send(()).ok();
            // Once the test drops its end, every piece is accepted.
            self.go_on.recv().unwrap_or(Ok(()))?;
            self.read.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Test {
        queue: LineQueue,
        began: Receiver<()>,
        go_on: Sender<io::Result<()>>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    /// Returns a queue whose output has begun with the first line, `first`, and is stuck there.
    fn stuck() -> Test {
        let (began, began_receiver) = channel();
        let (go_on, go_on_receiver) = channel();
        let read = Arc::default();
        let reader = Reader {
            began,
            go_on: go_on_receiver,
            read: Arc::clone(&read),
        };
        let queue = LineQueue::start(reader, |_| {}).expect("a thread");
        queue.push(b"first\n");
        began_receiver.recv_timeout(PATIENCE).expect("it writes");
        Test {
            queue,
            began: began_receiver,
            go_on,
            read,
        }
    }

    fn read(read: &Mutex<Vec<u8>>) -> String {
        String::from_utf8(read.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_reader_that_does_not_read_stops_nobody_and_loses_only_what_finds_no_room() {
        let test = stuck();
        for _ in 0..MAX_LINES + 3 {
            test.queue.push(b"x\n");
        }
        let state = test.queue.0.lock();
        assert_eq!((state.waiting.count, state.dropped), (MAX_LINES, 3));
        drop(state);
        test.queue.flush(Duration::from_millis(1));
        drop(test.go_on);
        test.queue.flush(PATIENCE);
        let text = read(&test.read);
        assert!(text.starts_with("first\nx\n"), "{}", &text[..20]);
        assert_eq!(text.lines().count() as u64, 1 + MAX_LINES);
        assert_eq!(test.queue.0.lock().dropped, 0, "reported");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let test = stuck();
        let long = [b'x'; MAX_BYTES / 2];
        for _ in 0..3 {
            test.queue.push(&long);
        }
        test.queue.push(b"");
        let state = test.queue.0.lock();
        assert_eq!((state.waiting.bytes.len(), state.dropped), (MAX_BYTES, 1));
    }

    #[test]
    fn lines_that_cannot_be_written_are_dropped_and_those_after_them_are_tried() {
        let test = stuck();
        let gone = Err(io::ErrorKind::BrokenPipe.into());
        test.go_on.send(gone).unwrap();
        test.queue.push(b"second\n");
        test.began.recv_timeout(PATIENCE).expect("it writes");
        assert_eq!(
            test.queue.0.lock().dropped,
            1,
            "not reported where nothing is read"
        );
        drop(test.go_on);
        test.queue.flush(PATIENCE);
        assert_eq!(read(&test.read), "second\n");
        assert_eq!(test.queue.0.lock().dropped, 0, "reported");
    }
}
