use super::*;

#[test]
fn times() {
    for (input, seconds, nanos, want) in [
        ("1970-01-01T00:00:00Z", 0, 0, "1970-01-01T00:00:00Z"),
        ("2026-11-23T08:27:40Z", 1_795_422_460, 0, "2026-11-23T08:27:40Z"),
        ("2020-02-29T23:59:59.123456789+01:30", 1_583_015_399, 123_456_789, "2020-02-29T22:29:59Z"),
        ("2020-02-29T5:00:00,5-24:00", 1_583_038_800, 500_000_000, "2020-03-01T05:00:00Z"),
        ("0001-01-01T00:00:00Z", ZERO_SECONDS, 0, "0001-01-01T00:00:00Z"),
        ("0000-03-01T00:00:00Z", -62_162_035_200, 0, "0000-03-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", 253_402_300_799, 0, "9999-12-31T23:59:59Z"),
    ] {
        let t = parse_rfc3339(input).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((t.seconds, t.nanos), (seconds, nanos), "{input}");
        assert_eq!(format_rfc3339(t.seconds), want);
    }
    let t = parse_micro("2020-01-01T00:00:00.000123Z").unwrap();
    assert_eq!(format_micro(t), "2020-01-01T00:00:00.000123Z");
    for seconds in [i64::MIN, i64::MAX] {
        let _ = format_rfc3339(seconds);
    }
}

#[test]
fn bad_times() {
    let layout = "2006-01-02T15:04:05Z07:00";
    for (input, want) in [
        ("", format!("parsing time \"\" as \"{layout}\": cannot parse \"\" as \"2006\"")),
        (
            "x\u{e9}",
            format!("parsing time \"x\\xc3\\xa9\" as \"{layout}\": cannot parse \"x\\xc3\\xa9\" as \"2006\""),
        ),
        (
            "2020-1-01T00:00:00Z",
            format!(
                "parsing time \"2020-1-01T00:00:00Z\" as \"{layout}\": cannot parse \"1-01T00:00:00Z\" as \"01\""
            ),
        ),
        ("2020-13-01T00:00:00Z", "parsing time \"2020-13-01T00:00:00Z\": month out of range".into()),
        ("2021-02-29T00:00:00Z", "parsing time \"2021-02-29T00:00:00Z\": day out of range".into()),
        ("2020-01-01T00:00:00Zx", "parsing time \"2020-01-01T00:00:00Zx\": extra text: \"x\"".into()),
        (
            "2020-01-01 00:00:00Z",
            format!(
                "parsing time \"2020-01-01 00:00:00Z\" as \"{layout}\": cannot parse \" 00:00:00Z\" as \"T\""
            ),
        ),
        (
            "2020-01-01T00:00:00",
            format!("parsing time \"2020-01-01T00:00:00\" as \"{layout}\": cannot parse \"\" as \"Z07:00\""),
        ),
    ] {
        assert_eq!(parse_rfc3339(input).unwrap_err().to_string(), want);
    }
    assert!(parse_micro("2020-01-01T00:00:00Z").is_err());
    assert!(parse_micro("2020-01-01T00:00:00.1234567Z").is_err());
}

#[test]
fn durations() {
    for (input, nanos, want) in [
        ("0", 0, "0s"),
        ("1h30m", 5_400_000_000_000, "1h30m0s"),
        ("-1.5s", -1_500_000_000, "-1.5s"),
        ("100ms", 100_000_000, "100ms"),
        ("1.001us", 1_001, "1.001\u{b5}s"),
        (".5m", 30_000_000_000, "30s"),
        ("2540400h10m10.000000000s", 9_145_440_610_000_000_000, "2540400h10m10s"),
        ("-9223372036854775808ns", i64::MIN, "-2562047h47m16.854775808s"),
        ("+5ns", 5, "5ns"),
    ] {
        assert_eq!(parse_duration(input), Ok(nanos), "{input}");
        assert_eq!(format_duration(nanos), want, "{input}");
    }
    for (input, want) in [
        ("", "time: invalid duration \"\""),
        ("3", "time: missing unit in duration \"3\""),
        ("3x", "time: unknown unit \"x\" in duration \"3x\""),
        ("-", "time: invalid duration \"-\""),
        (".s", "time: invalid duration \".s\""),
        ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
        ("1e400h", "time: unknown unit \"e\" in duration \"1e400h\""),
    ] {
        assert_eq!(parse_duration(input).unwrap_err().to_string(), want, "{input}");
    }
}

#[test]
fn the_written_form_is_read_as_any_other() {
    for seconds in (-62_167_219_200..253_402_300_799_i64).step_by(86_399 * 997) {
        let text = format_rfc3339(seconds);
        assert_eq!(parse_written(&text).map(|t| t.seconds), Some(seconds), "{text}");
        assert_eq!(parse_rfc3339(&text.replace('Z', "+00:00")).map(|t| t.seconds), Ok(seconds));
    }
    for text in [
        "2020-02-30T00:00:00Z",
        "2020-13-01T00:00:00Z",
        "2020-00-01T00:00:00Z",
        "2020-01-00T00:00:00Z",
        "2020-01-01T24:00:00Z",
        "2020-01-01T00:60:00Z",
        "2020-01-01T00:00:60Z",
        "2020-01-01t00:00:00Z",
        "2020-01-01T0:00:00.0Z",
        "202x-01-01T00:00:00Z",
    ] {
        assert_eq!(parse_written(text), None, "{text}");
    }
}
