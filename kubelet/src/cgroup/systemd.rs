//! systemd's manager, over D-Bus: starts, changes and stops slices.
//!
//! One connection for all calls, opened by the first and again after it broke: to the system's bus, else to systemd's own
//! socket. A unit is there (or gone) when its job is done, which a signal tells. Start at [`Systemd::start`]. Upstream:
//! systemd/{common,dbus}.go of github.com/opencontainers/cgroups v0.0.7 and dbus/ of github.com/coreos/go-systemd.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{Mutex, OnceCell};
use zbus::message::Type;
use zbus::wire::OwnedObjectPath;
use zbus::{Connection, MatchRule, MessageStream, Variant, connection};

use super::property::{Property, Value};

const BUS_NAME: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// Upstream waits so long for a job.
const JOB_TIMEOUT: Duration = Duration::from_secs(30);
/// Ended jobs that are remembered while the answer that names ours is under way.
const REMEMBERED_JOBS: usize = 256;
const QUEUE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
/// How often a call is made on a new connection when the old one broke.
const ATTEMPTS: usize = 3;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine was not started by systemd.
    #[error("systemd not running on this host, cannot use systemd cgroups manager")]
    NotRunning,
    /// Nothing could be asked.
    #[error("failed to connect to dbus: {0}")]
    Connect(zbus::Error),
    /// systemd refused, or did not answer.
    #[error("{0}")]
    Call(#[from] zbus::Error),
    /// The job ended otherwise.
    #[error("error creating systemd unit `{0}`: got `{1}`")]
    Job(String, String),
    /// The job did not end.
    #[error("Timeout waiting for systemd to {0} {1}")]
    Timeout(&'static str, String),
}

/// Where the manager is asked.
#[derive(Debug)]
enum Bus {
    /// The machine's.
    System,
    /// A peer that plays systemd.
    #[cfg(test)]
    Peer(std::path::PathBuf),
}

/// The manager of units.
#[derive(Debug)]
pub struct Systemd {
    bus: Bus,
    connection: Mutex<Option<Connection>>,
    version: OnceCell<i64>,
}

/// Whether the machine was started by systemd. Upstream: IsRunningSystemd, as sd_booted(3).
pub fn is_running(root: &Path) -> bool {
    std::fs::symlink_metadata(root.join("run/systemd/system")).is_ok_and(|found| found.is_dir())
}

impl Systemd {
    /// The machine's manager.
    ///
    /// # Errors
    /// If systemd does not run here.
    pub fn new() -> Result<Self, Error> {
        if !is_running(Path::new("/")) {
            return Err(Error::NotRunning);
        }
        Ok(Self { bus: Bus::System, connection: Mutex::default(), version: OnceCell::new() })
    }

    /// A manager that listens on a socket of its own.
    #[cfg(test)]
    pub(super) fn peer(socket: &Path) -> Self {
        let bus = Bus::Peer(socket.to_owned());
        Self { bus, connection: Mutex::default(), version: OnceCell::new() }
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref().filter(|c| !c.is_closed()) {
            return Ok(connection.clone());
        }
        let made = match &self.bus {
            Bus::System => match build(connection::Builder::system()).await {
                Ok(made) => Ok(made),
                // Without a bus daemon, root may talk to systemd itself.
                Err(first) => {
                    let direct = connection::Builder::address("unix:path=/run/systemd/private").p2p();
                    build(direct).await.map_err(|_| first)
                }
            },
            #[cfg(test)]
            Bus::Peer(path) => {
                build(connection::Builder::address(format!("unix:path={}", path.display()).as_str()).p2p())
                    .await
            }
        };
        let made = made.map_err(Error::Connect)?;
        *held = Some(made.clone());
        Ok(made)
    }

    /// Calls the manager; again on a new connection if the old one turns out to be broken.
    async fn call<B>(&self, member: &'static str, body: &B) -> Result<zbus::Message, Error>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let mut attempt = 1;
        loop {
            let connection = self.connect().await?;
            match connection.call_method(Some(BUS_NAME), MANAGER_PATH, Some(MANAGER), member, body).await {
                Err(zbus::Error::InputOutput(_)) if attempt < ATTEMPTS && connection.is_closed() => {
                    attempt += 1
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// systemd's version, -1 if it does not tell.
    pub async fn version(&self) -> i64 {
        *self
            .version
            .get_or_init(async || {
                self.ask_version().await.unwrap_or_else(|error| {
                    tracing::error!(%error, "unable to get systemd version");
                    -1
                })
            })
            .await
    }

    async fn ask_version(&self) -> Result<i64, String> {
        let connection = self.connect().await.map_err(|e| e.to_string())?;
        let answer = connection
            .call_method(
                Some(BUS_NAME),
                MANAGER_PATH,
                Some("org.freedesktop.DBus.Properties"),
                "Get",
                &(MANAGER, "Version"),
            )
            .await
            .map_err(|e| e.to_string())?;
        let body = answer.body();
        match body.deserialize::<Variant<'_>>().map_err(|e| e.to_string())? {
            Variant::Str(text) => {
                version_number(text.as_str()).ok_or_else(|| format!("can't parse version: {text}"))
            }
            other => Err(format!("unexpected version {other:?}")),
        }
    }

    /// Starts a slice; one that exists is left as it is.
    ///
    /// # Errors
    /// If systemd refuses or does not finish.
    pub async fn start(&self, unit: &str, properties: &[Property]) -> Result<(), Error> {
        type Auxiliary = Vec<(String, Vec<(String, Variant<'static>)>)>;
        let body = (unit, "replace", variants(properties), Auxiliary::new());
        match self.job("create", unit, "StartTransientUnit", &body).await {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                self.reset(unit).await;
                Err(Error::Job(unit.to_owned(), result))
            }
            Err(Error::Call(zbus::Error::MethodError(name, ..))) if name.as_str().contains("UnitExists") => {
                Ok(())
            }
            Err(error @ Error::Timeout(..)) => {
                self.reset(unit).await;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Changes a unit's properties until the next boot.
    ///
    /// # Errors
    /// If systemd refuses.
    pub async fn set(&self, unit: &str, properties: &[Property]) -> Result<(), Error> {
        self.call("SetUnitProperties", &(unit, true, variants(properties))).await.map(drop)
    }

    /// Stops a unit with everything in it. One that does not exist is as good as stopped.
    ///
    /// # Errors
    /// If systemd does not finish.
    pub async fn stop(&self, unit: &str) -> Result<(), Error> {
        match self.job("remove", unit, "StopUnit", &(unit, "replace")).await {
            Ok(result) if result != "done" => {
                tracing::warn!(unit, result, "error removing unit; continuing");
            }
            Ok(_) => {}
            Err(error @ (Error::Timeout(..) | Error::Connect(_))) => return Err(error),
            // As upstream: what could not be stopped may still be removed from the file system.
            Err(error) => tracing::debug!(unit, %error, "systemd does not stop a unit"),
        }
        self.reset(unit).await;
        Ok(())
    }

    /// Makes systemd forget that a unit failed; mostly it has not.
    async fn reset(&self, unit: &str) {
        if let Err(error) = self.call("ResetFailedUnit", &(unit,)).await {
            tracing::trace!(unit, %error, "nothing to reset");
        }
    }

    /// Makes a call that starts a job and waits for the job's result.
    async fn job<B>(
        &self,
        what: &'static str,
        unit: &str,
        member: &'static str,
        body: &B,
    ) -> Result<String, Error>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let connection = self.connect().await?;
        let rule =
            MatchRule::builder().msg_type(Type::Signal).interface(MANAGER).member("JobRemoved").build()?;
        // Listening begins before the call, because the job may end before its name is known.
        let mut ended = MessageStream::for_match_rule(rule, &connection, Some(QUEUE)).await?;
        let call = self.call(member, body);
        let wait = async {
            tokio::pin!(call);
            let mut job: Option<OwnedObjectPath> = None;
            let mut seen: VecDeque<(OwnedObjectPath, String)> = VecDeque::new();
            loop {
                tokio::select! {
                    answer = &mut call, if job.is_none() => {
                        let path: OwnedObjectPath = answer?.body().deserialize()?;
                        if let Some((_, result)) = seen.iter().find(|(done, _)| *done == path) {
                            return Ok(result.clone());
                        }
                        job = Some(path);
                    }
                    signal = ended.next() => {
                        let Some(signal) = signal else {
                            return Err(Error::Call(zbus::Error::Failure("connection closed by systemd".into())));
                        };
                        let signal = signal?;
                        let body = signal.body();
                        let (_, path, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
                        if job.as_ref() == Some(&path) {
                            return Ok(result);
                        }
                        if job.is_none() {
                            seen.truncate(REMEMBERED_JOBS - 1);
                            seen.push_front((path, result));
                        }
                    }
                }
            }
        };
        match tokio::time::timeout(JOB_TIMEOUT, wait).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout(what, unit.to_owned())),
        }
    }
}

async fn build(builder: connection::Builder<'_>) -> zbus::Result<Connection> {
    builder.method_timeout(JOB_TIMEOUT).build().await
}

fn variants(properties: &[Property]) -> Vec<(&'static str, Variant<'static>)> {
    let one = |value: &Value| match value {
        Value::Flag(flag) => Variant::from(*flag),
        Value::Number(number) => Variant::from(*number),
        Value::Text(text) => Variant::from(text.clone()),
        Value::Texts(texts) => Variant::from(texts.clone()),
        Value::Bytes(bytes) => Variant::from(bytes.clone()),
    };
    properties.iter().map(|(name, value)| (*name, one(value))).collect()
}

/// The number at the head of a version such as `245.4-1` or `v245`. Upstream: systemdVersionAtoi.
fn version_number(text: &str) -> Option<i64> {
    let text = text.trim_start_matches(['"', 'v']);
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let found = ["245.4-1.fc32", "v245", "\"v257.1\"", "260~rc2", "x"].map(version_number);
        assert_eq!(found, [Some(245), Some(245), Some(257), Some(260), None]);
    }

    #[test]
    fn where_systemd_runs() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_running(root.path()));
        std::fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        assert!(is_running(root.path()));
    }
}
