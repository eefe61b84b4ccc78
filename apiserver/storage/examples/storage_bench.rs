//! Prints what the embedded store and the watch cache cost here: `storage_bench DIRECTORY`. Build it optimised.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use storage::cacher::{At, Config, Decode, Decoded, Header, ListRequest, Scope, WatchRequest};
use storage::embedded::{Embedded, Options};
use storage::{Cacher, Result, Store};

const SIZE: usize = 8 << 10;
const OBJECTS: usize = 10_000;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: storage_bench DIRECTORY")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(runtime.block_on(run(directory))?)
}

fn rate(what: &str, n: usize, elapsed: Duration) {
    let each = elapsed.as_secs_f64() / n as f64;
    println!("{what}: {n} in {elapsed:.2?} = {:.0}/s, {:.2} us each", 1.0 / each, each * 1e6);
}

async fn run(directory: String) -> Result<()> {
    let store = Arc::new(Embedded::open(Options::new(directory))?);
    for (name, parallel, n) in [("1 writer", 1, 300), ("64 writers", 64, 5000), ("512 writers", 512, 20_000)]
    {
        let started = Instant::now();
        create(&store, &format!("/registry/durable/{parallel}/"), parallel, n).await?;
        rate(&format!("creates of 8 KiB with fsync, {name}"), n, started.elapsed());
    }
    let started = Instant::now();
    create(&store, "/registry/leases/", 64, 20_000).await?;
    rate("creates of 8 KiB in the relaxed class, 64 writers", 20_000, started.elapsed());
    create(&store, "/registry/pods/", 256, OBJECTS).await?;
    let decode: Decode = Arc::new(|kv| {
        let name = kv.key_str().rsplit('/').next().unwrap_or_default().into();
        Ok(Decoded { header: Header { name, ..Header::default() }, payload: kv.value.clone() })
    });
    let cacher = Cacher::new(Config::new(Arc::<Embedded>::clone(&store), "/registry/pods/", decode));
    let started = Instant::now();
    let failed = |error: storage::cacher::Error| storage::Error::Invalid(error.to_string());
    cacher.list(ListRequest::all()).await.map_err(failed)?;
    rate("filling the watch cache, per object", OBJECTS, started.elapsed());
    lists(&cacher).await.map_err(failed)?;
    fan_out(&store, &cacher).await
}

async fn create(store: &Arc<Embedded>, prefix: &str, parallel: usize, n: usize) -> Result<()> {
    let value = Bytes::from(vec![7; SIZE]);
    let writes = (0..n).map(|i| {
        let (store, value, key) = (Arc::clone(store), value.clone(), format!("{prefix}{i:06}"));
        async move { tokio::spawn(async move { store.create(&key, value, None).await }).await }
    });
    let outcomes: Vec<_> = futures::stream::iter(writes).buffer_unordered(parallel).collect().await;
    outcomes.into_iter().try_for_each(|outcome| match outcome {
        Ok(created) => created.map(|_| ()),
        Err(error) => Err(storage::Error::Io(error.to_string())),
    })
}

async fn lists(cacher: &Cacher) -> storage::cacher::error::Result<()> {
    let started = Instant::now();
    for _ in 0..100 {
        cacher.list(ListRequest::all()).await?;
    }
    rate("consistent list of all objects, per object", 100 * OBJECTS, started.elapsed());
    let started = Instant::now();
    for _ in 0..100 {
        let filter: storage::cacher::Filter = Arc::new(|object| object.header.name.ends_with("777"));
        cacher.list(ListRequest { filter: Some(filter), ..ListRequest::all() }).await?;
    }
    rate("consistent list selecting 10 of them, per object", 100 * OBJECTS, started.elapsed());
    let started = Instant::now();
    for _ in 0..20_000 {
        cacher.get("/registry/pods/000777", At::MostRecent).await?;
    }
    rate("consistent get", 20_000, started.elapsed());
    Ok(())
}

async fn fan_out(store: &Arc<Embedded>, cacher: &Cacher) -> Result<()> {
    let (watchers, events) = (200, 5000);
    let base = cacher.revision();
    let mut readers = Vec::new();
    for _ in 0..watchers {
        let request = WatchRequest { scope: Scope::All, ..WatchRequest::from(base) };
        let watch = cacher.watch(request).await;
        let mut watch = watch.map_err(|error| storage::Error::Invalid(error.to_string()))?;
        readers.push(tokio::spawn(async move {
            let mut seen = 0;
            while seen < events {
                seen += watch.next_batch(64).await.map_or(events, |batch| batch.len());
            }
        }));
    }
    let started = Instant::now();
    create(store, "/registry/pods/watched-", 256, events).await?;
    for reader in readers {
        reader.await.map_err(|error| storage::Error::Io(error.to_string()))?;
    }
    rate(
        "events delivered to 200 watches (with their durable creates)",
        watchers * events,
        started.elapsed(),
    );
    Ok(())
}
