//! What a run of upstream's suite says: a table of specs with times, and what matters of each failure.
//!
//! Reads ginkgo's JSON report. A table has a line per spec: state, seconds, name, separated by tabs; a table of another run
//! (upstream's own daemons) gives the ratios.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// One spec of a run.
#[derive(Debug, PartialEq)]
struct Spec {
    name: String,
    state: String,
    seconds: f64,
    failure: String,
    /// The namespace it worked in, if it told.
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Option<Vec<Report>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Report {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    /// Nanoseconds.
    run_time: f64,
    failure: Failure,
    captured_ginkgo_writer_output: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Failure {
    message: String,
}

/// Reads `folder/r.json`, writes `folder/table.txt`, prints totals by group and the failures; `logs` is the cluster's folder.
///
/// # Errors
/// When a file cannot be read, a spec failed, or none ran.
pub fn report(folder: &Path, baseline: &Path, logs: &Path) -> Result<()> {
    let path = folder.join("r.json");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let specs = specs(&text).with_context(|| format!("reading {}", path.display()))?;
    let before = fs::read_to_string(baseline).with_context(|| format!("reading {}", baseline.display()))?;
    let before = times(&before);
    fs::write(folder.join("table.txt"), table(&specs))?;
    print!("{}", groups(&specs, &before));
    let failed: Vec<&Spec> = specs.iter().filter(|s| s.state != "passed").collect();
    for spec in &failed {
        println!("\n{} {}\n  {}", spec.state, spec.name, spec.failure.trim().replace('\n', "\n  "));
        if before.get(&spec.name).is_some_and(|(state, _)| state != "passed") {
            println!("  (it fails on upstream's daemons too)");
        }
        if let Some(namespace) = &spec.namespace {
            print!("{}", mentions(logs, namespace)?);
        }
    }
    let new =
        failed.iter().filter(|s| before.get(&s.name).is_none_or(|(state, _)| state == "passed")).count();
    ensure!(
        !specs.is_empty(),
        "no spec ran; what {} says in the end may tell why",
        folder.join("log").display()
    );
    ensure!(new == 0, "{new} specs failed that pass on upstream's daemons, or that those did not run");
    Ok(())
}

fn specs(text: &str) -> Result<Vec<Spec>> {
    let suites: Vec<Suite> = serde_json::from_str(text)?;
    let mut specs: Vec<Spec> = suites
        .into_iter()
        .flat_map(|s| s.spec_reports.unwrap_or_default())
        .filter(|r| r.leaf_node_type == "It" && r.state != "skipped" && r.state != "pending")
        .map(|r| {
            let mut words = r.container_hierarchy_texts.unwrap_or_default();
            words.push(r.leaf_node_text);
            Spec {
                name: words.join(" "),
                state: r.state,
                seconds: r.run_time / 1e9,
                failure: r.failure.message,
                namespace: namespace(&r.captured_ginkgo_writer_output),
            }
        })
        .collect();
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(specs)
}

/// The suite says at a spec's end: `Destroying namespace "x" for this suite.`
fn namespace(output: &str) -> Option<String> {
    let (_, rest) = output.rsplit_once("Destroying namespace \"")?;
    Some(rest.split_once('"')?.0.to_string())
}

fn table(specs: &[Spec]) -> String {
    specs.iter().fold(String::new(), |mut text, spec| {
        let _ = writeln!(text, "{}\t{:.1}\t{}", spec.state, spec.seconds, spec.name);
        text
    })
}

/// State and seconds by name.
fn times(table: &str) -> BTreeMap<String, (String, f64)> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, '\t');
        let (state, seconds, name) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name.to_string(), (state.to_string(), seconds.parse().ok()?)))
    };
    table.lines().filter_map(line).collect()
}

/// Per group: how many passed here and before, and the time of those that passed both times.
fn groups(specs: &[Spec], before: &BTreeMap<String, (String, f64)>) -> String {
    #[derive(Default)]
    struct Group {
        all: usize,
        passed: usize,
        passed_before: usize,
        seconds: f64,
        seconds_before: f64,
    }
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for spec in specs {
        let group = groups.entry(spec.name.split(' ').next().unwrap_or_default()).or_default();
        let (passed, old) =
            (spec.state == "passed", before.get(&spec.name).filter(|(state, _)| state == "passed"));
        group.all += 1;
        group.passed += usize::from(passed);
        group.passed_before += usize::from(old.is_some());
        if let (true, Some((_, seconds))) = (passed, old) {
            group.seconds += spec.seconds;
            group.seconds_before += seconds;
        }
    }
    let mut text = format!(
        "{:<24} {:>5} {:>7} {:>9} {:>9} {:>9} {:>6}\n",
        "", "specs", "passed", "upstream", "seconds", "upstream", "ratio"
    );
    for (name, g) in groups {
        let ratio = if g.seconds_before > 0.0 { g.seconds / g.seconds_before } else { f64::NAN };
        let _ = writeln!(
            text,
            "{name:<24} {:>5} {:>7} {:>9} {:>9.0} {:>9.0} {ratio:>6.2}",
            g.all, g.passed, g.passed_before, g.seconds, g.seconds_before
        );
    }
    text
}

/// The last lines of every daemon's log that name the namespace.
fn mentions(cluster: &Path, namespace: &str) -> Result<String> {
    let mut text = String::new();
    let Ok(entries) = fs::read_dir(cluster.join("log")) else { return Ok(text) };
    for entry in entries {
        let path = entry?.path();
        let log = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(namespace)).collect();
        for line in &lines[lines.len().saturating_sub(5)..] {
            let _ = writeln!(text, "  {}: {line}", path.file_stem().unwrap_or_default().to_string_lossy());
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = r#"[{"SpecReports": [
        {"ContainerHierarchyTexts": ["[sig-apps] Job"], "LeafNodeType": "It", "LeafNodeText": "runs", "State": "passed",
         "RunTime": 3000000000, "CapturedGinkgoWriterOutput": ""},
        {"ContainerHierarchyTexts": ["[sig-apps] Job"], "LeafNodeType": "It", "LeafNodeText": "ends", "State": "failed",
         "RunTime": 1000000000, "Failure": {"Message": "timed out"},
         "CapturedGinkgoWriterOutput": "STEP: Destroying namespace \"job-12\" for this suite."},
        {"ContainerHierarchyTexts": null, "LeafNodeType": "It", "LeafNodeText": "other", "State": "skipped"},
        {"ContainerHierarchyTexts": null, "LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"}]}]"#;

    #[test]
    fn tells_specs_from_the_rest() -> Result<()> {
        let specs = specs(RUN)?;
        assert_eq!(table(&specs), "failed\t1.0\t[sig-apps] Job ends\npassed\t3.0\t[sig-apps] Job runs\n");
        assert_eq!(specs[0].namespace.as_deref(), Some("job-12"));
        Ok(())
    }

    #[test]
    fn a_run_without_specs_is_no_success() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        fs::write(at("baseline"), "")?;
        for (run, good) in [(RUN.replace("\"failed\"", "\"passed\""), true), ("[]".to_owned(), false)] {
            fs::write(at("r.json"), run)?;
            assert_eq!(report(folder.path(), &at("baseline"), folder.path()).is_ok(), good);
        }
        Ok(())
    }

    #[test]
    fn compares_the_time_of_what_passed_both_times() -> Result<()> {
        let before = times("passed\t6.0\t[sig-apps] Job runs\npassed\t9.0\t[sig-apps] Job ends\n");
        let text = groups(&specs(RUN)?, &before);
        let line: Vec<&str> = text.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        assert_eq!(line, ["[sig-apps]", "2", "1", "2", "3", "6", "0.50"]);
        Ok(())
    }
}
