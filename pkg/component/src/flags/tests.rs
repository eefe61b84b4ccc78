use proptest::prelude::*;

use super::*;
use crate::duration::GoDuration;

static SECTIONS: &[Section] = &[
    Section {
        title: "Misc",
        flags: &[
            flag("config", Kind::String, "", "Path."),
            flag("names", Kind::Strings, "[a,b]", "Names."),
            flag("each", Kind::StringArray, "[]", "Each."),
            flag("period", Kind::Duration, "5m0s", "Period."),
            flag("qps", Kind::Float32, "50", "Rate."),
            flag("burst", Kind::Int32, "100", "Burst."),
            flag("on", Kind::Bool, "true", "On."),
            flag("labels", Kind::MapStringString, "", "Labels."),
            flag("hard", Kind::LangleMap, "", "Thresholds."),
            flag("pairs", Kind::StringToString, "[]", "Pairs."),
            flag("gates", Kind::Multimap, "", "Gates."),
            flag("address", Kind::Ip, "0.0.0.0", "Address."),
            flag("listen", Kind::IpPort, "127.0.0.1:1", "Listen."),
            flag("ports", Kind::PortRange, "30000-32767", "Ports."),
            flag("size", Kind::Quantity, "0", "Size."),
            flag("sni", Kind::NamedCertKey, "[]", "Pairs."),
            flag("old", Kind::Bool, "false", "Old.").deprecated("use --on."),
            flag("gone", Kind::Int, "1", "Gone.").deprecated("no-op.").hidden(),
            flag("idle", Kind::Int, "0", "Idle.").no_effect("nothing here uses it"),
        ],
    },
    Section { title: "Global", flags: &[shared::V, shared::VERSION, shared::HELP] },
];

static COMMAND: Command = Command {
    name: "test",
    about: "About.",
    layout: Layout::Sections,
    sections: SECTIONS,
    defaults: &[("burst", "7")],
};

fn parse(args: &[&str]) -> Result<(FlagSet, Vec<String>), FlagError> {
    let mut set = COMMAND.flag_set();
    let rest = set.parse(args.iter().map(|a| a.to_string()))?;
    Ok((set, rest))
}

#[test]
fn values() {
    let check = |args: &[&str], name: &str, expected: &str| {
        let (set, _) = parse(args).unwrap();
        assert_eq!(set.rendered()[name], expected, "{args:?}");
    };
    check(&[], "names", "[a,b]");
    check(&[], "burst", "7");
    check(&["--names=x", "--names", "y,z"], "names", "[x,y,z]");
    check(&["--each=x,y", "--each=z"], "each", "[\"x,y\",z]");
    check(&["--on=false"], "on", "false");
    check(&["--on", "false"], "on", "true");
    check(&["--qps=0.5"], "qps", "0.5");
    check(&["--labels=b=1, a = 2", "--labels=c=3"], "labels", "a=2,b=1,c=3");
    check(&["--hard=memory.available<1Gi"], "hard", "memory.available<1Gi");
    check(&["--pairs=a=1,b=2"], "pairs", "[a=1,b=2]");
    check(&["--gates=kube:A=true,B=false"], "gates", ":B=false,kube:A=true");
    check(&["--address="], "address", "0.0.0.0");
    check(&["--listen=[::1]:80"], "listen", "[::1]:80");
    check(&["--ports=10+5"], "ports", "10-15");
    check(&["--sni=a,b:*.x,y"], "sni", "[a,b:*.x,y]");
    check(&["-v=3"], "v", "3");
    check(&["-v", "4"], "v", "4");
    check(&["-v5"], "v", "5");
    check(&["--con-fig_=x".replace("-fig_", "fig").as_str()], "config", "x");
}

#[test]
fn underscores_changes_and_positionals() {
    let (set, rest) = parse(&["a", "--period", "1h", "--", "--on=x"]).unwrap();
    assert_eq!(rest, ["a", "--on=x"]);
    assert_eq!(set.go_duration("period"), GoDuration::from_secs(3600));
    assert!(set.changed("period") && !set.changed("on"));
}

#[test]
fn warnings() {
    let (mut set, _) = parse(&["--old", "--gone=3", "--idle=1", "--idle=2"]).unwrap();
    assert_eq!(
        set.take_warnings(),
        [
            "Flag --old has been deprecated, use --on.",
            "Flag --gone has been deprecated, no-op.",
            "Flag --idle has no effect, nothing here uses it",
        ]
    );
}

#[test]
fn errors() {
    for (args, expected) in [
        (&["--nope"][..], "unknown flag: --nope"),
        (&["-z"], "unknown shorthand flag: 'z' in -z"),
        (&["--config"], "flag needs an argument: --config"),
        (&["-v"], "flag needs an argument: 'v' in -v"),
        (&["--=1"], "bad flag syntax: --=1"),
        (&["---x"], "bad flag syntax: ---x"),
        (
            &["--burst=x"],
            r#"invalid argument "x" for "--burst" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        (
            &["-v=-1"],
            r#"invalid argument "-1" for "-v, --v" flag: strconv.ParseUint: parsing "-1": invalid syntax"#,
        ),
        (&["--address=x"], r#"invalid argument "x" for "--address" flag: failed to parse IP: "x""#),
        (&["--pairs=x"], r#"invalid argument "x" for "--pairs" flag: x must be formatted as key=value"#),
        (
            &["--labels=x"],
            r#"invalid argument "x" for "--labels" flag: malformed pair, expect string=string"#,
        ),
        (
            &["--sni=x"],
            r#"invalid argument "x" for "--sni" flag: expected comma separated certificate and key file paths"#,
        ),
        (&["--period=5"], r#"invalid argument "5" for "--period" flag: time: missing unit in duration "5""#),
    ] {
        assert_eq!(parse(args).map(|_| ()).map_err(|e| e.to_string()), Err(expected.to_string()), "{args:?}");
    }
}

#[test]
fn help() {
    let text = COMMAND.help(&COMMAND.flag_set(), 0);
    let expected = r#"About.

Usage:
  test [flags]

Misc flags:

      --address ip                                 Address. (default 0.0.0.0)
      --burst int32                                Burst. (default 7)
      --config string                              Path.
      --each stringArray                           Each.
      --gates colonSeparatedMultimapStringString   Gates.
      --hard mapStringString                       Thresholds.
      --idle int                                   Idle.
      --labels mapStringString                     Labels.
      --listen ipport                              Listen. (default 127.0.0.1:1)
      --names strings                              Names. (default [a,b])
      --old                                        Old. (DEPRECATED: use --on.)
      --on                                         On. (default true)
      --pairs stringToString                       Pairs. (default [])
      --period duration                            Period. (default 5m0s)
      --ports portRange                            Ports. (default 30000-32767)
      --qps float32                                Rate. (default 50)
      --size quantity                              Size.
      --sni namedCertKey                           Pairs. (default [])

Global flags:

      --check-config             read the flags and every file they name, print all problems, start nothing, exit 1 when there are any
  -h, --help                     help for the command
  -v, --v Level                  number for the log level verbosity
      --version version[=true]   --version, --version=raw prints version information and quits; --version=vX.Y.Z... sets the reported version
"#;
    assert_eq!(text, expected);
    let narrow = COMMAND.help(&COMMAND.flag_set(), 80);
    assert!(narrow.lines().all(|l| l.len() <= 85), "{narrow}");
}

proptest! {
    #[test]
    fn no_argument_panics(args in proptest::collection::vec("(--?[a-z_]{1,8}(=[ -~]{0,12})?|[ -~]{0,12}|\\PC{0,6})", 0..8)) {
        let mut set = COMMAND.flag_set();
        let _ = set.parse(args);
        let _ = set.rendered();
    }

    #[test]
    fn no_value_panics(at in 0usize..19, value in "\\PC{0,24}") {
        let mut set = COMMAND.flag_set();
        let name = SECTIONS[0].flags[at].name;
        let _ = set.set(name, &value);
        let _ = set.rendered();
    }

    #[test]
    fn durations_print_and_read_back(nanos in any::<i64>()) {
        let text = GoDuration(nanos).to_string();
        prop_assert_eq!(GoDuration::parse(&text), Ok(GoDuration(nanos)));
    }

    #[test]
    fn csv_reads_what_it_writes(fields in proptest::collection::vec("[ -~]{0,8}", 1..5)) {
        let line = csv::join(&fields);
        prop_assume!(!line.is_empty());
        prop_assert_eq!(csv::split(&line), Ok(fields));
    }
}
