//! The answers that `make oracle` recorded when ours and upstream's were the same: a digest for each of the first
//! seeds. A change of codec, table or generator shows here; `make oracle` then says whether it is right.

mod support;

const RECORDED: &str = include_str!("data/codec.txt");

#[test]
fn answers_have_not_changed() {
    let table = api::types();
    let mut wrong = Vec::new();
    for line in RECORDED.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let [seed, api_version, kind, digest] = parts[..] else { panic!("damaged line {line}") };
        let seed = seed.parse().expect("seed");
        let id = table.kind(api_version, kind).expect("known kind");
        let document = support::document(table, seed, id, api_version, kind);
        if format!("{:016x}", support::digest(table, &document)) != digest {
            wrong.push(line);
        }
    }
    assert!(RECORDED.lines().count() >= 1000);
    assert!(wrong.is_empty(), "{} changed:\n{}", wrong.len(), wrong.join("\n"));
}
