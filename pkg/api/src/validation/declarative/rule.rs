//! One marker of the type table, taken apart: `beta(since: "1.37")=+k8s:eachVal=+k8s:maxBytes=64`.

/// What a marker asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule<'t> {
    /// `required`, `maxItems`, `eachVal`.
    pub name: &'t str,
    /// What stands in parentheses, quotes removed: a mode, a field, an option.
    pub argument: &'t str,
    /// What follows the equals sign: a number, a format, or the marker that is meant.
    pub payload: &'t str,
    /// Whether its errors reach the client. Those of the alpha stage do not; they are for upstream's metrics.
    pub enforced: bool,
}

impl<'t> Rule<'t> {
    /// Reads a marker; none when it holds only with (or without) an option and that is not so.
    pub fn parse(text: &'t str, options: &[&str]) -> Option<Rule<'t>> {
        let (mut rest, mut enforced) = (text, true);
        loop {
            let rule = split(rest);
            match rule.name {
                "alpha" => enforced = false,
                "beta" => {}
                "ifEnabled" if options.contains(&rule.argument) => {}
                "ifDisabled" if !options.contains(&rule.argument) => {}
                "ifEnabled" | "ifDisabled" => return None,
                _ => return Some(Rule { enforced: enforced && rule.enforced, ..rule }),
            }
            rest = rule.payload;
        }
    }

    /// The marker that a rule about parts or cases holds.
    pub fn nested(&self, options: &[&str]) -> Option<Rule<'t>> {
        let inner = Rule::parse(self.payload, options)?;
        Some(Rule { enforced: self.enforced && inner.enforced, ..inner })
    }

    /// The payload as a number.
    pub fn number(&self) -> Option<i64> {
        // Markers may end in a comment.
        self.payload.split(" #").next().unwrap_or_default().parse().ok()
    }
}

fn split(text: &str) -> Rule<'_> {
    let text = text.strip_prefix("+k8s:").unwrap_or(text);
    let end = text.find(['(', '=']).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let mut argument = "";
    if let Some((inside, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
        (argument, rest) = (inside, after);
    }
    Rule {
        name,
        argument: argument.trim_matches('"'),
        payload: rest.strip_prefix('=').unwrap_or("").trim_matches('"'),
        enforced: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_taken_apart() {
        let parse = |t| Rule::parse(t, &["On"]);
        let rule = parse("beta(since: \"1.37\")=+k8s:eachVal=+k8s:maxBytes=64").expect("a rule");
        assert_eq!((rule.name, rule.enforced), ("eachVal", true));
        let inner = rule.nested(&[]).expect("a rule");
        assert_eq!((inner.name, inner.number()), ("maxBytes", Some(64)));
        assert!(!parse("alpha(since:\"1.37\")=+k8s:immutable").expect("a rule").enforced);
        assert!(parse("ifDisabled(On)=+k8s:forbidden").is_none());
        assert_eq!(parse("ifEnabled(On)=+k8s:optional").map(|r| r.name), Some("optional"));
        assert_eq!(parse("format=\"k8s-short-name\"").map(|r| r.payload), Some("k8s-short-name"));
    }
}
