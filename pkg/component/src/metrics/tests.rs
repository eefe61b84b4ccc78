use super::*;

#[test]
fn text_format() {
    let registry = Registry::default();
    let counter = Family::<Counter>::registered(
        Opts::new("requests_total", "Requests \"seen\"\nso far.")
            .labels(&["verb", "code"])
            .stability(Stability::Stable),
        &[],
        &registry,
    );
    counter.with(&["GET", "200"]).add(3);
    counter.with(&["a\"b\\", "2"]).inc();
    let histogram = Family::<Histogram>::registered(
        Opts::new("wait_seconds", "Wait."),
        &[0.1, 1.0, 2_000_000.0],
        &registry,
    );
    for v in [0.05, 0.1, 0.5, 3.0] {
        histogram.one().observe(v);
    }
    let gauge =
        Family::<Gauge>::registered(Opts::new("depth", "Depth.").stability(Stability::Beta), &[], &registry);
    gauge.one().set(2.5);
    let expected = r#"# HELP depth [BETA] Depth.
# TYPE depth gauge
depth 2.5
# HELP requests_total [STABLE] Requests "seen"\nso far.
# TYPE requests_total counter
requests_total{code="2",verb="a\"b\\"} 1
requests_total{code="200",verb="GET"} 3
# HELP wait_seconds [ALPHA] Wait.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.1"} 2
wait_seconds_bucket{le="1"} 3
wait_seconds_bucket{le="2e+06"} 4
wait_seconds_bucket{le="+Inf"} 4
wait_seconds_sum 3.65
wait_seconds_count 4
"#;
    assert_eq!(registry.text(), expected);
    let open = text::openmetrics(&registry.gather());
    assert!(
        open.contains("# TYPE requests counter\nrequests_total{code=\"2\",verb=\"a\\\"b\\\\\"} 1.0\n"),
        "{open}"
    );
    assert!(open.ends_with("# EOF\n"));
}

#[test]
fn label_values_are_bounded() {
    let family = Family::<Counter>::new(Opts::new("x_total", "X.").labels(&["path"]).max_series(2), &[]);
    for path in ["a", "b", "c", "d", "a"] {
        family.with(&[path]).inc();
    }
    assert_eq!(family.with(&["a"]).get(), 2.0);
    assert_eq!(family.with(&["overflow"]).get(), 2.0);
}

#[test]
fn hidden_disabled_and_allow_lists() {
    let registry = Registry::default();
    Family::<Gauge>::registered(Opts::new("old", "Old.").deprecated(30), &[], &registry);
    Family::<Gauge>::registered(Opts::new("ageing", "Ageing.").deprecated(37), &[], &registry);
    let listed = Family::<Counter>::registered(Opts::new("c_total", "C.").labels(&["l"]), &[], &registry);
    let names = |r: &Registry| r.gather().into_iter().map(|m| m.name).collect::<Vec<_>>();
    assert_eq!(names(&registry), ["ageing"]);
    let mut options = Options { show_hidden: true, ..Options::default() };
    options.disabled.insert("ageing".into());
    options.allow("c_total,l", "a,b").unwrap();
    registry.configure(options);
    listed.with(&["a"]).inc();
    listed.with(&["z"]).inc();
    assert_eq!(names(&registry), ["c_total", "old"]);
    assert_eq!(listed.with(&["unexpected"]).get(), 1.0);
    assert!(registry.text().contains("c_total{l=\"unexpected\"} 1"));
}
