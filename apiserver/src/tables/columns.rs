//! Column sets by kind: facts recorded by `make oracle-printers`. Descriptions are upstream's prose and left out.

use std::collections::HashMap;
use std::sync::OnceLock;

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) format: &'static str,
    pub(super) priority: i32,
}

fn parse(data: &'static str) -> HashMap<&'static str, Vec<Column>> {
    let column = |text: &'static str| {
        let mut fields = text.split('|');
        let mut next = || fields.next().unwrap_or_default();
        let (name, kind, format) = (next(), next(), next());
        Column { name, kind, format, priority: next().parse().unwrap_or(0) }
    };
    let lines = data.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(kind, columns)| (kind, columns.split(';').map(column).collect())).collect()
}

/// Columns of `group/version Kind`; Name and Created At for a kind that has none of its own.
pub(super) fn of(api_version: &str, kind: &str) -> &'static [Column] {
    static ALL: OnceLock<HashMap<&'static str, Vec<Column>>> = OnceLock::new();
    static DEFAULT: [Column; 2] = [
        Column { name: "Name", kind: "string", format: "name", priority: 0 },
        Column { name: "Created At", kind: "date", format: "", priority: 0 },
    ];
    let all = ALL.get_or_init(|| parse(include_str!("../../data/table-columns.txt")));
    if kind == "Scale" {
        static SCALE: [Column; 4] = [
            Column { name: "Name", kind: "string", format: "name", priority: 0 },
            Column { name: "Desired", kind: "integer", format: "", priority: 0 },
            Column { name: "Available", kind: "integer", format: "", priority: 0 },
            Column { name: "Age", kind: "string", format: "", priority: 0 },
        ];
        return &SCALE;
    }
    all.get(format!("{api_version} {kind}").as_str()).map_or(&DEFAULT, Vec::as_slice)
}

#[cfg(test)]
mod tests {
    #[test]
    fn parses() {
        let pod = super::of("v1", "Pod");
        assert_eq!(
            pod.iter().map(|c| c.name).collect::<Vec<_>>()[..5],
            ["Name", "Ready", "Status", "Restarts", "Age"]
        );
        assert_eq!(super::of("example.com/v1", "Thing").len(), 2);
    }
}
