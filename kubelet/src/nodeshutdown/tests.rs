//! A shutdown that is told by a logind that the test plays, on a socket of its own.

use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc};
use zbus::{Guid, Message, Variant, connection};

use super::*;

const MANAGER: &str = "org.freedesktop.login1.Manager";

struct Fake {
    /// Microseconds.
    delay: Mutex<u64>,
    /// After its configuration was read again.
    later: u64,
    calls: mpsc::UnboundedSender<String>,
}

impl Fake {
    async fn serve(self, listener: UnixListener, mut events: mpsc::UnboundedReceiver<bool>) {
        let (stream, _) = listener.accept().await.unwrap();
        let builder =
            connection::Builder::unix_stream(stream.into_std().unwrap()).server(Guid::generate()).p2p();
        let mut messages = builder.build_message_stream().await.unwrap();
        let connection = zbus::Connection::from(&messages);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(Ok(message)) => self.answer(&connection, &message).await,
                    _ => return,
                },
                Some(down) = events.recv() => {
                    let path = "/org/freedesktop/login1";
                    connection
                        .emit_signal(None::<&str>, path, MANAGER, "PrepareForShutdown", &(down,))
                        .await
                        .unwrap();
                }
            }
        }
    }

    async fn answer(&self, connection: &zbus::Connection, message: &Message) {
        let header = message.header();
        let member = header.member().unwrap().to_string();
        self.calls.send(member.clone()).unwrap();
        match member.as_str() {
            "Get" => {
                let delay = *self.delay.lock();
                connection.reply(&header, &(Variant::from(delay),)).await.unwrap();
            }
            "KillUnit" => {
                *self.delay.lock() = self.later;
                connection.reply(&header, &()).await.unwrap();
            }
            _ => {
                let body: (String, String, String, String) = message.body().deserialize().unwrap();
                assert_eq!(
                    (body.0.as_str(), body.1.as_str(), body.3.as_str()),
                    ("shutdown", "kubelet", "delay")
                );
                let (reader, _) = std::io::pipe().unwrap();
                let fd = zbus::wire::OwnedFd::from(std::os::fd::OwnedFd::from(reader));
                connection.reply(&header, &(fd,)).await.unwrap();
            }
        }
    }
}

#[derive(Default)]
struct Node {
    log: Mutex<Vec<String>>,
    told: Notify,
}

#[async_trait]
impl Pods for Node {
    fn active(&self) -> Vec<Arc<Pod>> {
        let pod = |(uid, priority): (&str, i32)| -> Arc<Pod> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"uid": uid},
                    "spec": {"containers": [], "priority": priority, "terminationGracePeriodSeconds": 3}}))
                .unwrap(),
            )
        };
        [("critical", 2_000_000_000), ("usual", 0)].map(pod).to_vec()
    }
    fn kill(&self, uid: &str, grace: i64, eviction: Eviction) {
        self.log.lock().push(format!("kill {uid} {grace} {}", eviction.reason));
    }
    async fn gone(&self, uids: &[String]) {
        self.log.lock().push(format!("gone {uids:?}"));
    }
    fn tell(&self, message: &str) {
        self.log.lock().push(message.to_owned());
        self.told.notify_one();
    }
}

fn shutdown(dir: &Path) -> Arc<NodeShutdown> {
    Arc::new(NodeShutdown {
        steps: vec![Step { priority: 0, grace: 20 }, Step { priority: 2_000_000_000, grace: 2 }],
        bus: Bus::Peer(dir.join("bus")),
        logind_conf: dir.join("logind.conf.d"),
        record: Some(dir.join(record::FILE)),
        down: AtomicBool::new(false),
    })
}

#[tokio::test]
async fn stops_pods_in_order_and_is_called_off() {
    let dir = tempfile::tempdir().unwrap();
    let (calls, mut made) = mpsc::unbounded_channel();
    let (events, told) = mpsc::unbounded_channel();
    let fake = Fake { delay: Mutex::new(5_000_000), later: 22_000_000, calls };
    tokio::spawn(fake.serve(UnixListener::bind(dir.path().join("bus")).unwrap(), told));
    let (shutdown, node, stop) = (shutdown(dir.path()), Arc::new(Node::default()), CancellationToken::new());
    let run = tokio::spawn(shutdown.clone().run(node.clone(), stop.clone()));
    for expected in ["Get", "KillUnit", "Get", "Inhibit"] {
        assert_eq!(made.recv().await.unwrap(), expected);
    }
    events.send(true).unwrap();
    node.told.notified().await;
    assert!(shutdown.is_down());
    events.send(false).unwrap();
    node.told.notified().await;
    assert_eq!(made.recv().await.unwrap(), "Inhibit");
    assert!(!shutdown.is_down());
    let conf = std::fs::read_to_string(dir.path().join("logind.conf.d/99-kubelet.conf")).unwrap();
    assert_eq!(conf, "# Kubelet logind override\n[Login]\nInhibitDelayMaxSec=22\n");
    stop.cancel();
    run.await.unwrap();
    let log = node.log.lock().clone();
    let expected = [
        "Shutdown manager detected shutdown event",
        "kill usual 3 Terminated",
        "gone [\"usual\"]",
        "kill critical 2 Terminated",
        "gone [\"critical\"]",
        "Shutdown manager detected shutdown cancellation",
    ];
    assert_eq!(log, expected);
    let record = Record::load(&dir.path().join(record::FILE)).unwrap();
    assert!(record.start.is_some() && record.end >= record.start);
}

#[tokio::test]
async fn without_logind_nothing_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let run = shutdown(dir.path()).run(Arc::new(Node::default()), CancellationToken::new());
    tokio::time::timeout(Duration::from_secs(30), run).await.unwrap();
}
