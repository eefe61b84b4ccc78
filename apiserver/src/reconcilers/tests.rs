//! The cases of upstream's `lease_test.go` and `endpointsadapter_test.go`, as decisions.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::endpointsadapter::{self, slice_of};
use super::lease::{Aim, Step, decide};

type Port = (&'static str, i32, &'static str);

const FOO: &[Port] = &[("foo", 8080, "TCP")];
const TWO: &[Port] = &[("foo", 8080, "TCP"), ("bar", 1000, "TCP")];
const THREE: &[Port] = &[("foo", 8080, "TCP"), ("bar", 1000, "TCP"), ("baz", 1010, "TCP")];

pub(super) fn ports(of: &[Port]) -> Vec<EndpointPort> {
    let port = |&(name, port, protocol): &Port| EndpointPort {
        name: Some(name.to_owned()),
        port,
        protocol: Some(protocol.to_owned()),
        ..EndpointPort::default()
    };
    of.iter().map(port).collect()
}

pub(super) fn addresses(of: &[&str]) -> Vec<EndpointAddress> {
    of.iter().map(|ip| EndpointAddress { ip: (*ip).to_owned(), ..EndpointAddress::default() }).collect()
}

/// Addresses separated by blanks; without addresses and ports there is no subset.
pub(super) fn endpoints(ips: &str, of: &[Port]) -> Endpoints {
    let ips: Vec<&str> = ips.split_whitespace().collect();
    let mut all = Endpoints::default();
    all.metadata.name = Some("kubernetes".to_owned());
    all.metadata.namespace = Some("default".to_owned());
    let skip = ("endpointslice.kubernetes.io/skip-mirror".to_owned(), "true".to_owned());
    all.metadata.labels = Some([skip].into());
    let subset = EndpointSubset {
        addresses: Some(addresses(&ips)),
        ports: Some(ports(of)),
        ..EndpointSubset::default()
    };
    let some = !ips.is_empty() || !of.is_empty();
    all.subsets = Some(some.then_some(subset).into_iter().collect());
    all
}

fn slice(ips: &str, of: &[Port]) -> EndpointSlice {
    slice_of(&endpoints(ips, of))
}

#[derive(Clone, Copy)]
enum Run {
    /// The usual one.
    Usual,
    /// One that puts ports right.
    Ports,
    /// The one at the end of the server.
    Last,
}

struct Case {
    name: &'static str,
    run: Run,
    ports: &'static [Port],
    leases: &'static str,
    found: Option<(&'static str, &'static [Port])>,
    want: &'static str,
    then: (&'static str, &'static [Port]),
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "no existing endpoints", run: Run::Ports, ports: FOO, leases: "1.2.3.4", found: None, want: "create", then: ("1.2.3.4", FOO) },
    Case { name: "satisfied", run: Run::Ports, ports: FOO, leases: "1.2.3.4", found: Some(("1.2.3.4", FOO)), want: "mirror", then: ("1.2.3.4", FOO) },
    Case { name: "too many", run: Run::Ports, ports: FOO, leases: "1.2.3.4", found: Some(("1.2.3.4 4.3.2.1", FOO)), want: "update", then: ("1.2.3.4", FOO) },
    Case { name: "too many, extra masters", run: Run::Ports, ports: FOO, leases: "1.2.3.4 4.3.2.2 4.3.2.3 4.3.2.4", found: Some(("1.2.3.4 4.3.2.1 4.3.2.2 4.3.2.3 4.3.2.4", FOO)), want: "update", then: ("1.2.3.4 4.3.2.2 4.3.2.3 4.3.2.4", FOO) },
    Case { name: "too many, extra masters, first goes", run: Run::Ports, ports: FOO, leases: "4.3.2.1 4.3.2.2 4.3.2.3 4.3.2.4", found: Some(("1.2.3.4 4.3.2.1 4.3.2.2 4.3.2.3 4.3.2.4", FOO)), want: "update", then: ("4.3.2.1 4.3.2.2 4.3.2.3 4.3.2.4", FOO) },
    Case { name: "own address missing", run: Run::Ports, ports: FOO, leases: "4.3.2.1 4.3.2.2", found: Some(("4.3.2.1", FOO)), want: "update", then: ("4.3.2.1 4.3.2.2", FOO) },
    Case { name: "wrong address", run: Run::Ports, ports: FOO, leases: "1.2.3.4", found: Some(("4.3.2.1", FOO)), want: "update", then: ("1.2.3.4", FOO) },
    Case { name: "wrong port", run: Run::Ports, ports: FOO, leases: "1.2.3.4", found: Some(("1.2.3.4", &[("foo", 9090, "TCP")])), want: "update", then: ("1.2.3.4", FOO) },
    Case { name: "wrong protocol", run: Run::Ports, ports: FOO, leases: "1.2.3.4", found: Some(("1.2.3.4", &[("foo", 8080, "UDP")])), want: "update", then: ("1.2.3.4", FOO) },
    Case { name: "wrong port name", run: Run::Ports, ports: &[("baz", 8080, "TCP")], leases: "1.2.3.4", found: Some(("1.2.3.4", FOO)), want: "update", then: ("1.2.3.4", &[("baz", 8080, "TCP")]) },
    Case { name: "several ports satisfied", run: Run::Ports, ports: THREE, leases: "1.2.3.4", found: Some(("1.2.3.4", THREE)), want: "mirror", then: ("1.2.3.4", THREE) },
    Case { name: "a port missing", run: Run::Ports, ports: TWO, leases: "1.2.3.4", found: Some(("1.2.3.4", FOO)), want: "update", then: ("1.2.3.4", TWO) },
    Case { name: "a port missing, ports left alone", run: Run::Usual, ports: TWO, leases: "1.2.3.4", found: Some(("1.2.3.4", FOO)), want: "mirror", then: ("1.2.3.4", FOO) },
    Case { name: "wrong ports and address, ports left alone", run: Run::Usual, ports: TWO, leases: "1.2.3.4", found: Some(("4.3.2.1", FOO)), want: "update", then: ("1.2.3.4", FOO) },
    Case { name: "no existing endpoints, ports left alone", run: Run::Usual, ports: FOO, leases: "1.2.3.4", found: None, want: "create", then: ("1.2.3.4", FOO) },
    Case { name: "no lease though just renewed", run: Run::Usual, ports: FOO, leases: "", found: Some(("1.2.3.4", FOO)), want: "refuse", then: ("", &[]) },
    Case { name: "taken out before the start", run: Run::Ports, ports: FOO, leases: "4.3.2.2 4.3.2.3 4.3.2.4", found: Some(("1.2.3.4 4.3.2.2 4.3.2.3 4.3.2.4", FOO)), want: "update", then: ("4.3.2.2 4.3.2.3 4.3.2.4", FOO) },
    Case { name: "taken out at the end", run: Run::Last, ports: FOO, leases: "4.3.2.2 4.3.2.3 4.3.2.4", found: Some(("1.2.3.4 4.3.2.2 4.3.2.3 4.3.2.4", FOO)), want: "update", then: ("4.3.2.2 4.3.2.3 4.3.2.4", FOO) },
    Case { name: "no subset at the end", run: Run::Last, ports: FOO, leases: "4.3.2.2 4.3.2.3 4.3.2.4", found: Some(("", &[])), want: "update", then: ("4.3.2.2 4.3.2.3 4.3.2.4", FOO) },
    Case { name: "the last server ends", run: Run::Last, ports: FOO, leases: "", found: Some(("1.2.3.4", FOO)), want: "update", then: ("", &[]) },
    Case { name: "nothing to take out of at the end", run: Run::Last, ports: FOO, leases: "4.3.2.1", found: None, want: "nothing", then: ("", &[]) },
];

#[test]
fn endpoints_follow_the_leases() {
    for case in CASES {
        let aim = Aim {
            ports: &ports(case.ports),
            ports_too: !matches!(case.run, Run::Usual),
            stopping: matches!(case.run, Run::Last),
        };
        let leases: Vec<String> = case.leases.split_whitespace().map(str::to_owned).collect();
        let found = case.found.map(|(ips, of)| endpoints(ips, of));
        let (what, object) = match decide(found, &leases, aim) {
            Err(_) => ("refuse", None),
            Ok(Step::Nothing) => ("nothing", None),
            Ok(Step::Mirror(object)) => ("mirror", Some(object)),
            Ok(Step::Create(object)) => ("create", Some(object)),
            Ok(Step::Update(object)) => ("update", Some(object)),
        };
        assert_eq!(what, case.want, "{}", case.name);
        if let Some(object) = object {
            assert_eq!(object, endpoints(case.then.0, case.then.1), "{}", case.name);
        }
    }
}

#[test]
fn the_label_against_mirroring_comes_back() {
    let mut found = endpoints("1.2.3.4", FOO);
    found.metadata.labels = None;
    let aim = Aim { ports: &ports(FOO), ports_too: true, stopping: false };
    let step = decide(Some(found), &["1.2.3.4".to_owned()], aim).unwrap();
    assert_eq!(step, Step::Update(endpoints("1.2.3.4", FOO)));
}

#[test]
fn addresses_are_sorted_as_text_and_once() {
    let leases = ["9.0.0.1", "10.0.0.1", "10.0.0.1"].map(str::to_owned);
    let aim = Aim { ports: &ports(FOO), ports_too: true, stopping: false };
    let step = decide(None, &leases, aim).unwrap();
    assert_eq!(step, Step::Create(endpoints("10.0.0.1 9.0.0.1", FOO)));
}

#[test]
fn slices_mirror_endpoints() {
    use endpointsadapter::Step::{Create, Keep, Replace, Update};
    let six = "1234::5678:0:0:9abc:def0";
    let one = slice("10.1.2.3", FOO);
    assert_eq!((one.address_type.as_str(), one.endpoints.as_ref().map(Vec::len)), ("IPv4", Some(1)));
    let mixed = slice(&format!("10.1.2.3 {six}"), FOO);
    assert_eq!(mixed, one, "an address of the other family is left out");
    let other = slice(six, FOO);
    assert_eq!((other.address_type.as_str(), other.endpoints.as_ref().map(Vec::len)), ("IPv6", Some(1)));
    let mut labelled = one.clone();
    labelled.metadata.labels.get_or_insert_default().insert("a".to_owned(), "b".to_owned());
    let mut unlike = one.clone();
    unlike.address_type = "IP".to_owned();
    let cases = [
        ("none", None, &one, Create),
        ("the same", Some(one.clone()), &one, Keep),
        ("addresses", Some(slice("10.1.2.4", FOO)), &one, Update),
        ("ports", Some(slice("10.1.2.3", TWO)), &one, Update),
        ("labels", Some(labelled), &one, Update),
        ("old type", Some(unlike), &one, Replace),
        ("family", Some(other), &one, Replace),
        ("emptied", Some(one.clone()), &slice("", &[]), Update),
    ];
    for (name, present, wanted, want) in cases {
        assert_eq!(endpointsadapter::decide(present.as_ref(), wanted), want, "{name}");
    }
}
