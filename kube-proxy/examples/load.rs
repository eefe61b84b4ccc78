//! Connections through a Service, for e2e/fault-proxy.sh: `load serve ADDRESS` echoes; `load run SOURCE TARGET OPEN RATE`
//! keeps OPEN connections talking and makes RATE new ones a second from SOURCE, until its input ends, then prints what
//! went wrong, how and when, and how late it itself was: connections also fail on a machine that has no time for them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

/// A connection that needs longer is as good as failed: the kernel's first retry comes after a second.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Counts {
    made: AtomicU64,
    failed: AtomicU64,
    cut: AtomicU64,
    /// How, with the milliseconds between the start and the first and last connection that failed so.
    how: Mutex<BTreeMap<String, (u64, u128, u128)>>,
    /// The longest time between two ticks.
    late: AtomicU64,
}

impl Counts {
    fn failed(&self, at: Duration, how: ErrorKind) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let at = at.as_millis();
        let mut all = self.how.lock();
        let (count, _, last) = all.entry(how.to_string()).or_insert((0, at, at));
        *count += 1;
        *last = at.max(*last);
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", address] => serve(address.parse()?).await,
        ["run", source, target, open, rate] => {
            run(source.parse()?, target.parse()?, open.parse()?, rate.parse()?).await
        }
        _ => anyhow::bail!("usage: load serve ADDRESS | load run SOURCE TARGET OPEN RATE"),
    }
}

async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {}
        });
    }
}

async fn connect(source: SocketAddr, target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // Without this 1,000 a second would use up the ports.
    socket.set_zero_linger()?;
    socket.bind(source)?;
    socket.connect(target).await
}

/// One byte there and back.
async fn talk(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"x").await?;
    let mut byte = [0];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut byte)).await??;
    Ok(())
}

async fn run(source: SocketAddr, target: SocketAddr, open: u64, rate: u64) -> anyhow::Result<()> {
    let counts = Arc::new(Counts::default());
    let ended = CancellationToken::new();
    for _ in 0..open {
        let mut stream = connect(source, target).await?;
        let (counts, ended) = (counts.clone(), ended.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = ended.cancelled() => return,
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
                if talk(&mut stream).await.is_err() {
                    counts.cut.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        });
    }
    let (of_makers, until) = (counts.clone(), ended.clone());
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let (start, mut last) = (Instant::now(), Instant::now());
        while !until.is_cancelled() {
            ticks.tick().await;
            let late = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
            of_makers.late.fetch_max(late, Ordering::Relaxed);
            last = Instant::now();
            for _ in 0..rate / 100 {
                let counts = of_makers.clone();
                tokio::spawn(async move {
                    let one = async { talk(&mut connect(source, target).await?).await };
                    let at = start.elapsed();
                    let outcome = tokio::time::timeout(PATIENCE, one).await;
                    counts.made.fetch_add(1, Ordering::Relaxed);
                    match outcome {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => counts.failed(at, error.kind()),
                        Err(_) => counts.failed(at, ErrorKind::TimedOut),
                    }
                });
            }
        }
    });
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    ended.cancel();
    tokio::time::sleep(PATIENCE).await;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "made {} failed {} open {open} cut {}",
        read(&counts.made),
        read(&counts.failed),
        read(&counts.cut)
    );
    for (how, (count, first, last)) in &*counts.how.lock() {
        println!("{count} connections of {first} to {last} ms after the start: {how}");
    }
    println!("longest pause of the sender {} ms", read(&counts.late));
    Ok(())
}
