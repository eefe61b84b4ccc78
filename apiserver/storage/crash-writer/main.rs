//! Writes to a store until it is killed, and says on standard output what it tries and what was acknowledged: the other half
//! of `kill_nine_loses_nothing_acknowledged`. Arguments: the store's directory and the number of the cycle.

mod options;

use std::path::Path;
use std::sync::Arc;

use storage::{Embedded, Error, Store};

/// The number in a key's value, which begins with it; 0 without one.
async fn number(store: &Embedded, key: &str) -> Result<u64, Error> {
    let value = store.get(key, 0).await?.kv.map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
    Ok(value.and_then(|v| v.split('.').next()?.parse().ok()).unwrap_or(0))
}

async fn write(store: Arc<Embedded>, task: usize, cycle: u64) -> Result<(), Error> {
    let key = format!("/registry/{}/{task}", if task < 6 { "pods" } else { "leases" });
    let mut n = number(&store, &key).await?;
    if n == 0 {
        // Past a deletion: count on from the next multiple of seven that nobody has used.
        n = cycle * 700_000;
    }
    loop {
        n += 1;
        println!("try {key} {n}");
        let now = store.get(&key, 0).await?.kv.map_or(0, |kv| kv.mod_revision);
        let revision = if n.is_multiple_of(7) {
            store.delete(&key, now).await?
        } else {
            let value = format!("{n}.{}", "x".repeat((n % 50) as usize * 40));
            store.update(&key, value.into(), now, None).await?
        };
        println!("ack {key} {n} {revision}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(cycle)) = (arguments.next(), arguments.next()) else {
        return Err("wants a directory and a number".into());
    };
    let cycle: u64 = cycle.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let store = Arc::new(Embedded::open(options::options(Path::new(&directory)))?);
        let tasks = (0..8).map(|task| write(Arc::clone(&store), task, cycle));
        let tasks = tasks.map(tokio::spawn);
        for ended in futures::future::join_all(tasks).await {
            ended??;
        }
        Ok(())
    })
}
