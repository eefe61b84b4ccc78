use super::*;

fn q(s: &str) -> Quantity {
    Quantity::parse(s).unwrap_or_else(|e| panic!("{s}: {e}"))
}

#[test]
fn printed_form() {
    for (input, want) in [
        ("0", "0"),
        ("0.0", "0"),
        ("-0", "0"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1025Mi", "1025Mi"),
        ("1.500", "1.500"),
        ("+1", "+1"),
        ("01", "01"),
        ("1.", "1."),
        (".5", "500m"),
        ("12e3", "12e3"),
        ("12E6", "12E6"),
        ("1e2", "100"),
        ("1e400", "10e399"),
        ("0.1n", "1n"),
        ("1e-400", "1e-9"),
        ("-0.1n", "-1n"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("9223372036854775807Ki", "9223372036854775807"),
        ("0.5Ki", "512"),
        ("0.0001Ki", "102400u"),
        ("1000E", "1"),
        ("100000", "100k"),
    ] {
        assert_eq!(q(input).to_string(), want, "{input}");
    }
}

#[test]
fn refused() {
    for (input, want) in [
        ("", ParseError::FormatWrong),
        ("1Kii", ParseError::Suffix),
        ("1e", ParseError::Suffix),
        ("1 ", ParseError::FormatWrong),
        ("1.2.3", ParseError::FormatWrong),
        ("abc", ParseError::FormatWrong),
        ("1K", ParseError::Suffix),
        ("1é", ParseError::FormatWrong),
    ] {
        assert_eq!(Quantity::parse(input).unwrap_err(), want, "{input}");
    }
    assert!(Quantity::parse(&"9".repeat(100_000)).is_err());
}

#[test]
fn values_and_order() {
    assert_eq!(q("1500m").value(), 2);
    assert_eq!(q("-1500m").value(), -2);
    assert_eq!(q("1500m").milli_value(), 1500);
    assert_eq!(q("100m").milli_value(), 100);
    assert_eq!(q("1Gi").as_i64(), Some(1 << 30));
    assert_eq!(q("0.5").as_i64(), None);
    assert_eq!(q("1"), q("1000m"));
    assert!(q("1Gi") > q("1G"));
    assert!(q("1e2000000000") > q("1e1999999999"));
    assert!(q("-1e2000000000") < q("5"));
    assert!((q("250m").as_f64() - 0.25).abs() < 1e-12);
}

#[test]
fn arithmetic() {
    let check = |a: &str, op: fn(&mut Quantity, &Quantity), b: &str, want: &str| {
        let mut x = q(a);
        op(&mut x, &q(b));
        assert_eq!(x.to_string(), want, "{a} {b}");
    };
    check("1", Quantity::add, "500m", "1500m");
    check("0", Quantity::add, "1Gi", "1Gi");
    check("1Gi", Quantity::sub, "1Mi", "1023Mi");
    check("1Gi", Quantity::sub, "1", "1073741823");
    check("9223372036854775807", Quantity::add, "1", "9223372036854775808");
    check("1e2000000000", Quantity::add, "1", "100e1999999998");
    let mut x = q("3");
    assert!(x.mul(5));
    assert_eq!(x.to_string(), "15");
    assert!(!q("9223372036854775807").mul(2));
    let mut x = q("1234567n");
    assert!(!x.round_up(-6));
    assert_eq!(x.to_string(), "1235u");
}

#[test]
fn serde_text() {
    let a: Quantity = serde_json::from_str("\" 5Gi \"").unwrap();
    assert_eq!(serde_json::to_string(&a).unwrap(), "\"5Gi\"");
}

#[test]
fn settled_texts_stay_as_they_are() {
    let numbers =
        (0..3000_i64).chain([10_000, 99_999, 102_400, 123_000, 1_048_576, 99_999_999, 999_999_999_999_999]);
    let mut settled = 0;
    for number in numbers {
        for suffix in
            ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "i"]
        {
            for before in ["", "0", "-", "+"] {
                let text = format!("{before}{number}{suffix}");
                if Quantity::is_settled(&text) {
                    settled += 1;
                    assert_eq!(Quantity::parse(&text).map(|q| q.to_string()).as_ref(), Ok(&text));
                }
            }
        }
    }
    assert!(settled > 20_000, "{settled}");
    for text in ["", "m", "Ki", "00", "1.5", "1024Mi", "1000", "1000m", "100000Gi"] {
        assert!(!Quantity::is_settled(text), "{text}");
    }
    for text in ["0", "1", "100m", "128Mi", "1Gi", "99999Gi", "110"] {
        assert!(Quantity::is_settled(text), "{text}");
    }
}
