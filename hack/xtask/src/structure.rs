//! What reviews would otherwise have to watch: sizes, places and words.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// The longest a source file may be.
const MAX_LINES: usize = 1000;

/// Directories of single machines, which mean nothing elsewhere.
const PLACES: [&str; 2] = ["/work/", "/root/"];

/// Fails with every violation in the files that git knows.
pub fn check() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let listed =
        Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output().context("git ls-files")?;
    let mut problems = Vec::new();
    for name in String::from_utf8(listed.stdout)?.split('\0').filter(|n| !n.is_empty()) {
        // Recorded data and deleted files.
        let Ok(text) = std::fs::read_to_string(root.join(name)) else { continue };
        problems.extend(problems_of(name, &text));
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{} problems:\n{}", problems.len(), problems.join("\n"))
}

fn problems_of(name: &str, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let rust = name.ends_with(".rs");
    let lines = text.lines().count();
    if rust && lines > MAX_LINES {
        out.push(format!("{name}: {lines} lines; split it, {MAX_LINES} are the limit"));
    }
    let own = name == "hack/xtask/src/structure.rs";
    for (i, line) in text.lines().enumerate().filter(|_| !own) {
        let mut problem = |what: &str| out.push(format!("{name}:{}: {what}", i + 1));
        if rust && line.trim_start().starts_with("#[ignore") {
            problem("a test that never runs; run it or delete it");
        }
        if rust && !name.starts_with("pkg/sys/") && is_unsafe(line) {
            problem("unsafe code belongs into pkg/sys");
        }
        if let Some(place) = PLACES.iter().find(|p| (rust || name.ends_with(".md")) && line.contains(**p)) {
            problem(&format!("{place} is a directory of one machine"));
        }
    }
    out
}

fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|u| code.contains(u))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_seen() {
        let long = "x\n".repeat(MAX_LINES + 1);
        assert_eq!(problems_of("a.rs", &long).len(), 1);
        assert_eq!(problems_of("a.md", &long).len(), 0);
        for line in ["#[ignore = \"slow\"]", "unsafe { f() }", "let p = \"/root/x\";"] {
            assert_eq!(problems_of("a.rs", line).len(), 1, "{line}");
        }
        assert!(problems_of("pkg/sys/src/a.rs", "unsafe impl X for Y {}").is_empty());
        assert!(problems_of("a.rs", "// unsafe { } in words").is_empty());
    }

    #[test]
    fn the_repository_has_none() {
        check().unwrap();
    }
}
