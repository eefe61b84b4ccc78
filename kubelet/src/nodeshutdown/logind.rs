//! logind, over D-Bus: it tells of a shutdown before it happens and waits while somebody holds a lock.
//!
//! Upstream: pkg/kubelet/nodeshutdown/systemd/inhibit_linux.go, v1.37.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use futures::{Stream, StreamExt};
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, Variant, connection};

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Where its configuration is extended.
pub const CONFIGURATION: &str = "/etc/systemd/logind.conf.d";
const CONFIGURATION_FILE: &str = "99-kubelet.conf";

/// Where it is asked.
#[derive(Debug)]
pub enum Bus {
    /// The machine's.
    System,
    /// A peer that plays logind.
    #[cfg(test)]
    Peer(std::path::PathBuf),
}

/// As long as this lives, the machine is not shut down (but no longer than logind's patience).
#[derive(Debug)]
pub struct Lock {
    _held: OwnedFd,
}

/// A connection to it.
pub struct Logind {
    connection: Connection,
}

impl Logind {
    /// Connects.
    ///
    /// # Errors
    /// If there is no bus.
    pub async fn connect(bus: &Bus) -> Result<Self, String> {
        let builder = match bus {
            Bus::System => connection::Builder::system(),
            #[cfg(test)]
            Bus::Peer(path) => {
                connection::Builder::address(format!("unix:path={}", path.display()).as_str()).p2p()
            }
        };
        let connection = builder.method_timeout(CALL_TIMEOUT).build().await.map_err(|e| e.to_string())?;
        Ok(Self { connection })
    }

    async fn call<B>(&self, interface: &str, member: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.connection.call_method(Some(NAME), PATH, Some(interface), member, body).await
    }

    /// How long logind waits at most.
    ///
    /// # Errors
    /// If it does not tell.
    pub async fn inhibit_delay(&self) -> Result<Duration, String> {
        let failed = |e: zbus::Error| format!("failed reading InhibitDelayMaxUSec property from logind: {e}");
        let question = (MANAGER, "InhibitDelayMaxUSec");
        let answer = self.call("org.freedesktop.DBus.Properties", "Get", &question).await.map_err(failed)?;
        match answer.body().deserialize::<Variant<'_>>().map_err(failed)? {
            Variant::U64(micros) => Ok(Duration::from_micros(micros)),
            _ => Err("InhibitDelayMaxUSec from logind is not a uint64 as expected".to_owned()),
        }
    }

    /// Takes a lock.
    ///
    /// # Errors
    /// If logind refuses.
    pub async fn inhibit(&self) -> Result<Lock, String> {
        let failed = |e: zbus::Error| format!("failed creating systemd inhibitor: {e}");
        let body = ("shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay");
        let answer = self.call(MANAGER, "Inhibit", &body).await.map_err(failed)?;
        let fd: zbus::wire::OwnedFd = answer.body().deserialize().map_err(failed)?;
        Ok(Lock { _held: fd.into() })
    }

    /// Makes it read its configuration again.
    ///
    /// # Errors
    /// If systemd refuses.
    pub async fn reload(&self) -> Result<(), String> {
        const SIGHUP: i32 = 1;
        let body = ("systemd-logind.service", "all", SIGHUP);
        let (name, path) = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1");
        let manager = "org.freedesktop.systemd1.Manager";
        let answer = self.connection.call_method(Some(name), path, Some(manager), "KillUnit", &body).await;
        answer.map(drop).map_err(|e| format!("unable to reload logind conf: {e}"))
    }

    /// True for each shutdown that begins, false if it does not happen after all. Ends with the connection.
    ///
    /// # Errors
    /// If nothing can be watched.
    pub async fn events(&self) -> Result<impl Stream<Item = Result<bool, String>> + Send + Unpin, String> {
        let failed = |e: zbus::Error| format!("failed to monitor shutdown: {e}");
        let rule =
            MatchRule::builder().msg_type(Type::Signal).interface(MANAGER).member("PrepareForShutdown");
        let rule = rule.build().map_err(failed)?;
        let messages = MessageStream::for_match_rule(rule, &self.connection, None).await.map_err(failed)?;
        let read = |message: zbus::Result<Message>| {
            message.and_then(|m| m.body().deserialize::<bool>()).map_err(|e| e.to_string())
        };
        Ok(messages.map(read))
    }
}

/// Makes logind wait longer from its next look at the configuration on.
///
/// # Errors
/// If the file cannot be written.
pub fn override_delay(dir: &Path, delay: Duration) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let seconds = delay.as_secs_f64();
    let text = format!("# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={seconds:.0}\n");
    fs::write(dir.join(CONFIGURATION_FILE), text)
}
