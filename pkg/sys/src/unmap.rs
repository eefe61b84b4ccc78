//! Memory of the process that is the same in a file, or that nobody will read again, and giving it back.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::mm::{Advice, madvise};

/// Bits of a page in /proc/PID/pagemap (pagemap(5), Documentation/admin-guide/mm/pagemap.rst): it is there; it is in swap, or
/// on its way; it is a file's.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
/// Entries that are read at once.
const ENTRIES: usize = 512;

/// Text and constants of a program and of the libraries that were loaded with it.
#[derive(Debug)]
pub struct MappedText(Vec<Range<usize>>);

impl MappedText {
    /// What is mapped now. Libraries that anybody loads later are not part of it: while they are loaded, what stands in their
    /// mappings changes.
    ///
    /// # Errors
    /// If the kernel tells nothing of the mappings.
    pub fn now() -> io::Result<Self> {
        Ok(Self(std::fs::read_to_string("/proc/self/maps")?.lines().filter_map(of_file).collect()))
    }

    /// Takes its pages out of this process. The kernel keeps them in its cache, as any other file's, and maps those that are
    /// used again, which costs no reading. Pages that the process has made its own (the loader wrote addresses, a debugger
    /// breakpoints) stay. Answers how many bytes the others have.
    ///
    /// # Errors
    /// If the kernel does not tell which those are.
    pub fn unmap(&self) -> io::Result<usize> {
        let (size, pagemap) = (rustix::param::page_size(), File::open("/proc/self/pagemap")?);
        let mut bytes = 0;
        for range in &self.0 {
            let mut at = range.start;
            while at < range.end {
                let pages = ENTRIES.min((range.end - at) / size);
                let mut entries = [0; 8 * ENTRIES];
                pagemap.read_exact_at(&mut entries[..8 * pages], (at / size * 8) as u64)?;
                for run in not_own(&entries[..8 * pages]) {
                    let start = std::ptr::with_exposed_provenance_mut(at + run.start * size);
                    // SAFETY: the mapping lasts as long as the process, and no page of the range is the process's own: what
                    // is read there again is what the file has.
                    unsafe { madvise(start, run.len() * size, Advice::LinuxDontNeed) }?;
                    bytes += run.len() * size;
                }
                at += pages * size;
            }
        }
        Ok(bytes)
    }
}

/// The mapping of a line of /proc/PID/maps (proc_pid_maps(5)), if it is a file's that is only read or executed.
fn of_file(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, mode) = (fields.next()?, fields.next()?);
    if !matches!(mode, "r--p" | "r-xp") || !Path::new(fields.nth(3)?).is_absolute() {
        return None;
    }
    addresses(range)
}

/// Runs of pages that are not the process's own, as their entries in pagemap tell.
fn not_own(entries: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (page, entry) in entries.as_chunks().0.iter().enumerate() {
        let entry = u64::from_ne_bytes(*entry);
        if entry & SWAPPED != 0 || entry & (PRESENT | OF_FILE) == PRESENT {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == page => run.end += 1,
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

fn addresses(range: &str) -> Option<Range<usize>> {
    let number = |text| usize::from_str_radix(text, 16).ok();
    range.split_once('-').and_then(|(a, b)| Some(number(a)?..number(b)?))
}

/// Room below this function's own frame that its calls may need.
const CALLS: usize = 32 << 10;

/// Gives back what the calling thread's stack once needed and does not now. Answers how many bytes were looked at.
///
/// # Errors
/// If the kernel tells nothing of the mappings.
pub fn trim_stack() -> io::Result<usize> {
    let here = 0u8;
    let here = (&raw const here).expose_provenance();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let Some(unused) = maps.lines().find_map(|line| below(line, here, rustix::param::page_size())) else {
        return Ok(0);
    };
    let start = std::ptr::with_exposed_provenance_mut(unused.start);
    // SAFETY: stacks grow downwards, and a mapping holds but one: this part of it belongs to calls that have returned.
    unsafe { madvise(start, unused.len(), Advice::LinuxDontNeed) }?;
    Ok(unused.len())
}

/// What a stack does not need while `here` is in use, if the line of /proc/PID/maps is the stack's.
fn below(line: &str, here: usize, page: usize) -> Option<Range<usize>> {
    let stack = addresses(line.split_ascii_whitespace().next()?)?;
    let end = here.checked_sub(CALLS)? / page * page;
    (stack.contains(&here) && stack.start < end).then_some(stack.start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_nobody_writes_are_unmapped() {
        for (line, want) in [
            ("55e0a000-55e0f000 r--p 00000000 fe:00 77 /usr/bin/kubelet", Some(0x55e0_a000..0x55e0_f000)),
            ("7f000000-7f001000 r-xp 00000000 fe:00 78 /usr/lib/libc.so.6", Some(0x7f00_0000..0x7f00_1000)),
            ("55e30000-55e31000 rw-p 00026000 fe:00 77 /usr/bin/kubelet", None),
            ("55e30000-55e31000 r--s 00026000 fe:00 79 /var/cache/some", None),
            ("7f001000-7f002000 r--p 00000000 00:00 0", None),
            ("7ffd4000-7ffd6000 r-xp 00000000 00:00 0 [vdso]", None),
        ] {
            assert_eq!(of_file(line), want, "{line}");
        }
    }

    #[test]
    fn own_pages_stay() {
        let runs =
            |entries: &[u64]| not_own(&entries.iter().flat_map(|e| e.to_ne_bytes()).collect::<Vec<_>>());
        let (file, own, absent) = (PRESENT | OF_FILE, PRESENT, 0);
        assert_eq!(runs(&[file, absent, own, file, file]), [0..2, 3..5]);
        assert_eq!(runs(&[SWAPPED, SWAPPED | OF_FILE, own]), []);
        assert_eq!(runs(&[]), []);
    }

    #[test]
    fn a_stack_keeps_what_is_above() {
        let line = "7f000000-7f200000 rw-p 00000000 00:00 0";
        assert_eq!(below(line, 0x7f1f_8123, 4096), Some(0x7f00_0000..0x7f1f_0000));
        // Too little is below, and another's.
        assert_eq!(below(line, 0x7f00_8000, 4096), None);
        assert_eq!(below(line, 0x7f20_0000, 4096), None);
    }

    fn resident(what: &str) -> usize {
        let smaps = std::fs::read_to_string("/proc/thread-self/smaps").unwrap();
        let mut inside = false;
        let mut found = 0;
        for line in smaps.lines() {
            if line.starts_with(|c: char| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
                inside = line.contains(what);
            } else if let (true, Some(amount)) = (inside, line.strip_prefix("Rss:")) {
                found += amount.trim().trim_end_matches(" kB").parse::<usize>().unwrap();
            }
        }
        found
    }

    #[test]
    fn the_program_goes_on_with_less() {
        let program = std::env::current_exe().unwrap();
        let before = resident(program.to_str().unwrap());
        assert!(MappedText::now().unwrap().unmap().unwrap() > 0);
        let after = resident(program.to_str().unwrap());
        assert!(after < before, "{before} to {after} KiB");
    }

    #[test]
    fn a_stack_loses_what_a_call_left() {
        fn deep(depth: usize) -> u64 {
            let filled = std::hint::black_box([depth as u64; 4096]);
            if depth == 0 { filled[7] } else { filled[9] + deep(depth - 1) }
        }
        let kept = std::hint::black_box([7u64; 64]);
        assert_eq!(deep(20), 210);
        let range = |line: &str| addresses(line.split(' ').next().unwrap()).unwrap();
        let here = (&raw const kept).expose_provenance();
        let name = std::fs::read_to_string("/proc/self/maps").unwrap();
        let name = name.lines().find(|l| range(l).contains(&here)).unwrap().split(' ').next().unwrap();
        let before = resident(name);
        assert!(before > 20 * 32, "{before} KiB");
        assert!(trim_stack().unwrap() > 0);
        let after = resident(name);
        assert!(after + 20 * 32 / 2 < before, "{before} to {after} KiB");
        assert!(kept.iter().all(|&n| n == 7));
        assert_eq!(deep(20), 210);
    }
}
