//! Beside nft's own messages: testdata has texts of ours and what nft (1.0.6) sends for them, as `nft --debug=mnl -f`
//! prints it, one message a line.

use super::batch::HEADER;
use super::compile;
use super::set::{Edge, edges};
use crate::model::Family;

fn check(family: Family, golden: &str) {
    let (text, messages) = golden.split_once("\n\n").expect("a text and messages");
    let ours = compile(family, text).expect("known words");
    let lines: Vec<&str> = text.lines().collect();
    let (mut theirs, mut rest) = (messages.lines(), ours.bytes.as_slice());
    while let Some(length) = rest.get(..4) {
        let length = u32::from_ne_bytes(length.try_into().expect("four")) as usize;
        let (message, after) = rest.split_at(length);
        rest = after;
        // Beginning and end are not nf_tables' own.
        if message[5] == 10 {
            let hex: String = message[HEADER..].iter().map(|b| format!("{b:02x}")).collect();
            let sequence = u32::from_ne_bytes(message[8..12].try_into().expect("four")) as usize;
            let line = lines[ours.lines[sequence - 1] as usize];
            assert_eq!(format!("{} {hex}", message[4]), theirs.next().unwrap_or(""), "{line}");
        }
    }
    assert_eq!(theirs.next(), None);
}

#[test]
fn the_messages_are_nfts() {
    check(Family::V4, include_str!("testdata/ip.txt"));
    check(Family::V6, include_str!("testdata/ip6.txt"));
}

#[test]
fn lists_that_do_not_fit_are_left_to_nft() {
    let rule = |count: usize| {
        let all: Vec<String> =
            (0..count).map(|i| format!("{i} : 10.0.{}.{} . 80", i / 256, i % 256)).collect();
        let choice =
            format!("dnat ip addr . port to numgen random mod {count} map {{ {} }}", all.join(" , "));
        format!("add rule ip kube-proxy x meta l4proto tcp {choice}")
    };
    assert!(compile(Family::V4, &rule(1000)).is_some());
    assert_eq!(compile(Family::V4, &rule(3000)), None);
}

#[test]
fn ranges_that_touch_are_one() {
    let text = |ranges: &[&str]| -> Vec<String> {
        let ranges: Vec<_> = ranges.iter().map(|r| r.parse().expect("a range")).collect();
        let edge = |e: &Edge| format!("{}{}", if e.over { "-" } else { "+" }, e.at);
        edges(&ranges).iter().map(edge).collect()
    };
    assert_eq!(
        text(&["10.1.0.0/16", "11.0.0.0/8", "10.0.0.0/8", "192.0.2.1/32"]),
        ["-0.0.0.0", "+10.0.0.0", "-12.0.0.0", "+192.0.2.1", "-192.0.2.2"]
    );
    assert_eq!(text(&["0.0.0.0/0", "10.0.0.0/8"]), ["+0.0.0.0"]);
    assert_eq!(text(&["ffff::/16", "::1/128"]), ["-::", "+::1", "-::2", "+ffff::"]);
}

#[test]
fn other_words_are_left_to_nft() {
    for line in [
        "list ruleset",
        "add rule ip kube-proxy services tcp dport 80 accept",
        "add rule ip other services drop",
        "add rule ip6 kube-proxy services drop",
        "add rule ip kube-proxy services ip saddr fd00::/64 drop",
        "add element ip kube-proxy service-ips { 10.0.0.1-10.0.0.9 }",
        "add rule ip kube-proxy services drop comment unquoted",
        "add set ip kube-proxy x { type mark ; }",
        "flush ruleset",
    ] {
        assert_eq!(compile(Family::V4, line), None, "{line}");
    }
}
