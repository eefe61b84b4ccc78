//! Facts about the machine, read from `/proc`, `/sys` and `/etc`.

use std::fs;
use std::path::Path;

/// What the machine is and has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Processors.
    pub cpus: i64,
    /// The processors, as a list such as `0-3,8`.
    pub online: String,
    /// Most tasks that the kernel takes, if it tells.
    pub max_tasks: Option<i64>,
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of swap.
    pub swap: i64,
    /// Huge page sizes in bytes, and how many bytes of each there are.
    pub huge_pages: Vec<(u64, i64)>,
    /// Id of the installation.
    pub machine_id: String,
    /// Id of the hardware.
    pub system_uuid: String,
    /// Changes with every boot.
    pub boot_id: String,
    /// Kernel release.
    pub kernel: String,
    /// Name of the operating system's release.
    pub os_image: String,
}

/// Size and free space of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes.
    pub capacity: i64,
    /// Bytes that unprivileged users may still write.
    pub available: i64,
    /// Bytes in use.
    pub used: i64,
    /// Inodes.
    pub inodes: i64,
    /// Free inodes.
    pub inodes_free: i64,
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

impl Machine {
    /// Reads the machine. What cannot be read is left empty.
    pub fn read() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let boot_id = first_line("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let machine_id = ["/etc/machine-id", "/var/lib/dbus/machine-id"].into_iter().find_map(first_line);
        let uuid = ["/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid", "/etc/machine-id"];
        Self {
            cpus: i64::try_from(online_cpus()).unwrap_or(i64::MAX),
            online: first_line(ONLINE).unwrap_or_default(),
            max_tasks: max_tasks(),
            memory: kibibytes(&meminfo, "MemTotal:").saturating_mul(1024),
            swap: kibibytes(&meminfo, "SwapTotal:").saturating_mul(1024),
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
            system_uuid: uuid
                .into_iter()
                .find_map(first_line)
                .or_else(|| machine_id.clone())
                .unwrap_or_default(),
            machine_id: machine_id.unwrap_or_default(),
            boot_id,
            kernel: first_line("/proc/sys/kernel/osrelease").unwrap_or_default(),
            os_image: os_image(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        }
    }
}

/// True if this process is root only within a user namespace. Upstream: moby/sys/userns.
pub fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    is_mapped(&map)
}

/// The kernel's first namespace maps all ids to themselves.
fn is_mapped(map: &str) -> bool {
    let first = map.lines().next().unwrap_or_default();
    let all: Vec<&str> = first.split_whitespace().collect();
    !(all.is_empty() || all == ["0", "0", "4294967295"])
}

/// Both say how many tasks there may be. Upstream: pkg/kubelet/stats/pidlimit.
pub fn max_tasks() -> Option<i64> {
    let files = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    files.into_iter().filter_map(|path| first_line(path)?.parse().ok()).min()
}

/// How many tasks there are. Upstream: the same.
pub fn tasks() -> i64 {
    let load = first_line("/proc/loadavg").unwrap_or_default();
    load.split(['/', ' ']).nth(4).and_then(|n| n.parse().ok()).unwrap_or_default()
}

const ONLINE: &str = "/sys/devices/system/cpu/online";

fn online_cpus() -> usize {
    let text = first_line(ONLINE).unwrap_or_default();
    match count_ranges(&text) {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// Members of a list such as `0-3,5`.
fn count_ranges(text: &str) -> usize {
    let count = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (low.trim().parse::<usize>().ok()?, high.trim().parse::<usize>().ok()?);
        high.checked_sub(low).map(|n| n + 1)
    };
    text.split(',').filter_map(count).sum()
}

/// A value of `/proc/meminfo`.
pub fn kibibytes(meminfo: &str, name: &str) -> i64 {
    let line = meminfo.lines().find(|line| line.starts_with(name));
    line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse().ok()).unwrap_or_default()
}

fn huge_pages(root: &Path) -> Vec<(u64, i64)> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut out: Vec<(u64, i64)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kb: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
            let bytes = i64::try_from(kb.checked_mul(1024)?).ok()?;
            Some((kb * 1024, count.trim().parse::<i64>().ok()?.saturating_mul(bytes)))
        })
        .collect();
    out.sort_unstable();
    out
}

fn os_image(release: &str) -> String {
    let value = |key: &str| {
        let line = release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.map(|v| v.trim_matches('"').to_owned())
    };
    value("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned())
}

/// The file system that a path is on.
pub fn disk(path: &Path) -> Option<Disk> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let block = stat.fragment_size();
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(block)).unwrap_or(i64::MAX);
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Some(Disk {
        capacity: bytes(stat.blocks()),
        available: bytes(stat.blocks_available()),
        used: bytes(stat.blocks().saturating_sub(stat.blocks_free())),
        inodes: count(stat.files()),
        inodes_free: count(stat.files_free()),
    })
}

/// This machine's name in lower case.
pub fn hostname() -> String {
    nix::unistd::gethostname().map(|n| n.to_string_lossy().trim().to_lowercase()).unwrap_or_default()
}

/// The address from which this machine reaches others; nothing is sent.
pub fn default_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Any routable address will do to make the kernel choose the source.
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then(|| ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_users() {
        let all = ["         0          0 4294967295\n", "0 100000 65536\n", "0 1000 1\n1 2 3\n", ""];
        assert_eq!(all.map(is_mapped), [false, true, true, false]);
    }

    #[test]
    fn reads_files() {
        assert_eq!(count_ranges("0-3,5"), 5);
        assert_eq!(kibibytes("MemTotal:       16 kB\nSwapTotal: 3 kB\n", "SwapTotal:"), 3);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        let machine = Machine::read();
        assert!(machine.cpus > 0 && machine.memory > 0 && !machine.kernel.is_empty(), "{machine:?}");
        assert!(disk(Path::new("/")).unwrap().capacity > 0);
    }
}
