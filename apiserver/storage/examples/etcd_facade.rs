//! Serves an embedded store as etcd on a unix socket: `etcd_facade DIRECTORY SOCKET [SECONDS]`, where the last is
//! the interval of unasked progress reports. For running others' tests on it. With `STRICT` in the environment no write is
//! of the relaxed class, so that revisions do not jump at a start after a crash: etcd's validators know no jumps.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use storage::embedded::{Embedded, Options};
use tokio_util::sync::CancellationToken;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(socket)) = (arguments.next(), arguments.next()) else {
        return Err("usage: etcd_facade DIRECTORY SOCKET [SECONDS]".into());
    };
    let notify = match arguments.next() {
        Some(seconds) => Duration::from_secs(seconds.parse::<u64>()?.max(1)),
        None => storage::facade::NOTIFY,
    };
    let mut options = Options::new(directory);
    if std::env::var_os("STRICT").is_some() {
        options.relaxed_prefixes.clear();
    }
    let store = Arc::new(Embedded::open(options)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = storage::facade::bind(Path::new(&socket))?;
        let stop = CancellationToken::new();
        let ended = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                ended.cancel();
            }
        });
        storage::facade::serve_notifying(store, listener, notify, stop).await
    })?;
    Ok(())
}
