//! The manager against a systemd that is played by the test, on a socket of its own.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::UnixListener;
use zbus::wire::{ObjectPath, OwnedVariant};
use zbus::{Guid, Message, Variant, connection};

use super::*;
use crate::container::limits::DEFAULT_PERIOD_US;

const MANAGER: &str = "org.freedesktop.systemd1.Manager";

#[derive(Default)]
struct Fake {
    units: Mutex<HashSet<String>>,
    calls: Mutex<Vec<String>>,
    /// The connection ends after so many calls.
    patience: usize,
}

fn shown(properties: &[(String, OwnedVariant)]) -> String {
    let one = |(name, value): &(String, OwnedVariant)| format!("{name}={}", Variant::from(value.clone()));
    properties.iter().map(one).collect::<Vec<_>>().join(" ")
}

impl Fake {
    async fn serve(self: Arc<Self>, listener: UnixListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = stream.into_std().unwrap();
            let builder = connection::Builder::unix_stream(stream).server(Guid::generate()).p2p();
            let mut messages = builder.build_message_stream().await.unwrap();
            let connection = zbus::Connection::from(&messages);
            for _ in 0..self.patience {
                let Some(Ok(message)) = messages.next().await else { break };
                self.answer(&connection, &message).await;
            }
        }
    }

    async fn answer(&self, connection: &zbus::Connection, message: &Message) {
        let header = message.header();
        let (member, body) = (header.member().unwrap().to_string(), message.body());
        let unit = match member.as_str() {
            "Get" => {
                return connection.reply(&header, &(Variant::from("257.1-1"),)).await.unwrap();
            }
            "StartTransientUnit" => {
                type Properties = Vec<(String, OwnedVariant)>;
                type Call = (String, String, Properties, Vec<(String, Properties)>);
                let (unit, mode, properties, _): Call = body.deserialize().unwrap();
                self.calls.lock().push(format!("start {unit} {mode} {}", shown(&properties)));
                unit
            }
            "SetUnitProperties" => {
                let (unit, runtime, properties): (String, bool, Vec<(String, OwnedVariant)>) =
                    body.deserialize().unwrap();
                self.calls.lock().push(format!("set {unit} {runtime} {}", shown(&properties)));
                return connection.reply(&header, &()).await.unwrap();
            }
            "StopUnit" => {
                let (unit, mode): (String, String) = body.deserialize().unwrap();
                self.calls.lock().push(format!("stop {unit} {mode}"));
                unit
            }
            _ => return connection.reply(&header, &()).await.unwrap(),
        };
        let start = member == "StartTransientUnit";
        if start && !self.units.lock().insert(unit.clone()) {
            let text = format!("Unit {unit} was already loaded or has a fragment file.");
            return connection
                .reply_error(&header, "org.freedesktop.systemd1.UnitExists", &text)
                .await
                .unwrap();
        }
        let job = ObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{}", unit.len())).unwrap();
        let removed = (7u32, job.clone(), unit.as_str(), "done");
        let path = "/org/freedesktop/systemd1";
        // A job may end before its name is known, and after.
        if !start {
            self.units.lock().remove(&unit);
            connection.emit_signal(None::<&str>, path, MANAGER, "JobRemoved", &removed).await.unwrap();
        }
        connection.reply(&header, &job).await.unwrap();
        if start {
            let other = (8u32, ObjectPath::try_from("/other").unwrap(), "other.service", "failed");
            connection.emit_signal(None::<&str>, path, MANAGER, "JobRemoved", &other).await.unwrap();
            connection.emit_signal(None::<&str>, path, MANAGER, "JobRemoved", &removed).await.unwrap();
        }
    }
}

fn manager(dir: &Path, patience: usize) -> (Arc<Fake>, CgroupManager) {
    let fake = Arc::new(Fake { patience, ..Fake::default() });
    let socket = dir.join("private");
    tokio::spawn(fake.clone().serve(UnixListener::bind(&socket).unwrap()));
    let mounts = ["cpu,cpuacct", "memory"].map(|name| (name.to_owned(), dir.join(name)));
    for (_, mount) in &mounts {
        std::fs::create_dir_all(mount).unwrap();
    }
    let settings = Settings {
        per_qos: true,
        root: "/".into(),
        allocatable: CgroupLimits { shares: Some(2048), memory: Some(1 << 30), ..CgroupLimits::default() },
        pod_pids: Some(100),
        classes: classes::Policy::default(),
    };
    let driver = Driver::Systemd(Systemd::peer(&socket));
    (fake, CgroupManager::new(Hierarchy::V1(mounts.into()), driver, settings))
}

fn pod() -> Pod {
    serde_json::from_value(json!({"metadata": {"uid": "12-ab"}, "spec": {"containers": [
        {"name": "a", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "125m", "memory": "64Mi"}}}]}}))
    .unwrap()
}

fn node() -> NodeLimits {
    NodeLimits { cpu_cfs_quota: true, cpu_period_us: DEFAULT_PERIOD_US, ..NodeLimits::default() }
}

#[tokio::test]
async fn slices_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, manager) = manager(dir.path(), usize::MAX);
    manager.create_tree().await.unwrap();
    manager.create_pod(&pod(), &node()).await.unwrap();
    let path = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_ab.slice";
    assert_eq!(manager.parent(&pod()), format!("/{path}"));
    assert!(manager.exists(&pod()) && dir.path().join("memory").join(path).is_dir());
    assert_eq!(manager.pods(), HashSet::from(["12-ab".to_owned()]));
    let calls = std::mem::take(&mut *fake.calls.lock());
    assert_eq!(
        calls[..2],
        [
            "start kubepods.slice replace Description=\"libcontainer container kubepods.slice\" Wants=[\"-.slice\"] MemoryAccounting=true CPUAccounting=true BlockIOAccounting=true TasksAccounting=true DefaultDependencies=false",
            "set kubepods.slice true MemoryLimit=uint64 1073741824 CPUShares=uint64 2048",
        ]
    );
    assert!(calls[6].contains("Wants=[\"kubepods-burstable.slice\"]"), "{calls:?}");
    // 12.5 % of a processor: systemd knows whole ones only.
    assert_eq!(
        calls[7],
        "set kubepods-burstable-pod12_ab.slice true MemoryLimit=uint64 67108864 CPUShares=uint64 102 CPUQuotaPeriodUSec=uint64 100000 CPUQuotaPerSecUSec=uint64 130000 TasksMax=uint64 100"
    );
    manager.remove_pod("12-ab").await.unwrap();
    assert_eq!(*fake.calls.lock(), ["stop kubepods-burstable-pod12_ab.slice replace"]);
    assert!(!dir.path().join("memory").join(path).exists());
}

/// A slice that exists is taken as it is; a connection that broke is made anew.
#[tokio::test]
async fn survives_its_surroundings() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, manager) = manager(dir.path(), 3);
    fake.units.lock().insert("kubepods.slice".into());
    let mut made = manager.create_tree().await;
    for _ in 0..10 {
        if made.is_ok() {
            break;
        }
        made = manager.create_tree().await;
    }
    made.unwrap();
    assert_eq!(fake.units.lock().len(), 3);
}
