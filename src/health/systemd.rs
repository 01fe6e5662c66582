//! Reports the service's state to systemd, or to any other supervisor that sets `NOTIFY_SOCKET` (sd_notify(3)).
//!
//! The messages are, in order: the status of the recovery with an extension of the start's timeout; `READY=1` once
//! `/health/ready` answers 200; the status for `systemctl status` whenever it changes; `STOPPING=1` before the first
//! port closes. If `WATCHDOG_USEC` is set, `WATCHDOG=1` is sent in addition. `NOTIFY_SOCKET` stays in the environment,
//! since the service starts no program that could inherit it.
//!
//! **Invariant:** without a socket nothing is sent, and no failure here stops or fails anything else.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;
use std::{env, io};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::health::monitor::HealthMonitor;
use crate::journal::Journal;

/// Interval and length of the extensions of the start's timeout while the journal is recovered. A recovery that hangs
/// waits in the kernel for its disk, and no signal would end that either.
const EXTEND_INTERVAL: Duration = Duration::from_secs(10);
const EXTEND_BY: Duration = Duration::from_secs(60);
/// Maximum time of a stop beside its shutdown delay and its grace: requests in flight, the last sync, the database's
/// answer.
const STOP_BEYOND: Duration = Duration::from_secs(60);
/// Interval of checks for a new status. The first check comes after one interval, when the
/// database has usually been contacted.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The supervisor, if the environment names one.
#[derive(Clone, Debug, Default)]
pub struct Systemd {
    socket: Option<Arc<NotifySocket>>,
    /// Interval within which the supervisor expects `WATCHDOG=1`; `None` if it expects none.
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct NotifySocket {
    own: UnixDatagram,
    to: SocketAddr,
}

/// A service that is starting; ends with [`SystemdStarting::ready`].
pub struct SystemdStarting {
    supervisor: Systemd,
    background: JoinSet<()>,
}

/// A service that is running. Must be kept until the end of a stop, since the watchdog expects messages until then.
pub(crate) struct SystemdRunning {
    supervisor: Systemd,
    status: JoinSet<()>,
    _life: JoinSet<()>,
}

impl Systemd {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        match NotifySocket::named(&name) {
            Ok(socket) => Self {
                socket: Some(Arc::new(socket)),
                watchdog: watchdog(
                    env::var("WATCHDOG_USEC").ok().as_deref(),
                    env::var("WATCHDOG_PID").ok().as_deref(),
                    std::process::id(),
                ),
            },
            Err(error) => {
                tracing::warn!(
                    "NOTIFY_SOCKET={}: {error}; no readiness and no status is sent there",
                    name.display()
                );
                Self::default()
            }
        }
    }

    /// Sends the status of the start, and extends its timeout for as long as the start lasts. Must be called on the
    /// runtime.
    #[must_use]
    pub fn starting(self, doing: &str) -> SystemdStarting {
        let mut background = JoinSet::new();
        if self.socket.is_some() {
            let (supervisor, status) = (self.clone(), status(doing));
            background.spawn(async move {
                let mut ticks = ticks(EXTEND_INTERVAL);
                loop {
                    ticks.tick().await;
                    let by = EXTEND_BY.as_micros();
                    supervisor.send(&format!("EXTEND_TIMEOUT_USEC={by}\n{status}"));
                }
            });
        }
        SystemdStarting {
            supervisor: self,
            background,
        }
    }

    /// Sends a message. Returns whether the socket accepted it.
    fn send(&self, message: &str) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        let sent = socket.own.send_to_addr(message.as_bytes(), &socket.to);
        if let Err(error) = &sent {
            tracing::debug!("NOTIFY_SOCKET: {error}");
        }
        sent.is_ok()
    }
}

impl SystemdStarting {
    /// Reports that clients may connect. `place` names the addresses and the database. From then on the status follows
    /// `/health`, and `WATCHDOG=1` is sent while the runtime and the append thread of `journal` make progress, whatever
    /// the database does.
    #[must_use]
    pub(crate) async fn ready(
        mut self,
        place: String,
        health: &HealthMonitor,
        journal: &Journal,
    ) -> SystemdRunning {
        // No message of the start is sent after this.
        self.background.shutdown().await;
        let supervisor = self.supervisor;
        let (mut statuses, mut life) = (JoinSet::new(), JoinSet::new());
        if supervisor.socket.is_some() {
            let first = status(&place);
            let last_sent = supervisor
                .send(&format!("READY=1\n{first}"))
                .then_some(first);
            statuses.spawn(follow(supervisor.clone(), health.clone(), place, last_sent));
            if let Some(watchdog) = supervisor.watchdog {
                life.spawn(live(supervisor.clone(), journal.clone(), watchdog / 3));
            }
        }
        SystemdRunning {
            supervisor,
            status: statuses,
            _life: life,
        }
    }
}

impl SystemdRunning {
    /// Reports that the stop begins. It lasts at most `delay`, `grace` and [`STOP_BEYOND`] together.
    pub(crate) fn stopping(&mut self, delay: Duration, grace: Duration) {
        self.status.abort_all();
        let within = delay.saturating_add(grace).saturating_add(STOP_BEYOND);
        let status = status("stopping: the requests under way, then what the database still takes");
        self.supervisor.send(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={}\n{status}",
            within.as_micros()
        ));
    }
}

impl NotifySocket {
    /// Parses a path, or after `@` the name of an abstract socket (unix(7)).
    fn named(name: &OsStr) -> io::Result<Self> {
        let to = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("neither a path nor @ and a name")),
        };
        let own = UnixDatagram::unbound()?;
        // A supervisor that does not read must not block the service.
        own.set_nonblocking(true)?;
        Ok(Self { own, to })
    }
}

/// Returns the watchdog's timeout, if the supervisor set one for this process.
fn watchdog(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec))
}

/// Sends the status whenever it differs from `last_sent`, the last one sent. `None` = `READY=1` was not accepted yet.
async fn follow(
    supervisor: Systemd,
    health: HealthMonitor,
    place: String,
    mut last_sent: Option<String>,
) {
    let mut ticks = ticks(STATUS_INTERVAL);
    ticks.reset();
    loop {
        ticks.tick().await;
        let now = match health.report().await.first_problem() {
            Some(problem) => status(&format!("degraded: {problem}; {place}")),
            None => status(&place),
        };
        let message = match &last_sent {
            Some(before) if *before == now => continue,
            Some(_) => now.clone(),
            None => format!("READY=1\n{now}"),
        };
        if supervisor.send(&message) {
            last_sent = Some(now);
        }
    }
}

/// Sends `WATCHDOG=1` at the interval `every`, each time after the append thread has shown progress.
async fn live(supervisor: Systemd, journal: Journal, every: Duration) {
    let mut ticks = ticks(every);
    loop {
        ticks.tick().await;
        journal.writer_is_alive().await;
        supervisor.send("WATCHDOG=1");
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Formats a status as one line, since a line break would begin another message.
fn status(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("STATUS={line}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{status, watchdog};

    #[test]
    fn a_watchdog_that_waits_for_another_process_is_not_answered() {
        let second = Some(Duration::from_secs(1));
        for (usec, pid, expected) in [
            (Some("1000000"), Some("7"), second),
            (Some("1000000"), None, second),
            (Some("1000000"), Some("8"), None),
            (Some("1000000"), Some("x"), None),
            (Some("0"), Some("7"), None),
            (Some("soon"), Some("7"), None),
            (None, Some("7"), None),
        ] {
            assert_eq!(watchdog(usec, pid, 7), expected, "{usec:?} {pid:?}");
        }
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(status("full\nREADY=1\t"), "STATUS=full READY=1 ");
    }
}
