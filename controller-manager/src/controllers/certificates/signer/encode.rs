//! Certificates in DER, byte for byte as Go's crypto/x509 writes them. Pure.
//!
//! Of the subject only the attributes that Go's pkix.Name knows are kept, in its order, each kind in one set.
//! Upstream: crypto/x509 CreateCertificate, buildCertExtensions; crypto/x509/pkix Name.ToRDNSequence.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::x509::X509Name;
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, DERWriterSeq, Tag};

use super::policy::Terms;
use crate::controllers::certificates::request::{Names, names};

/// Attributes of a subject in Go's order: object identifier, and whether only the last one counts.
const ATTRIBUTES: &[(&[u64], bool)] = &[
    (&[2, 5, 4, 6], false),
    (&[2, 5, 4, 8], false),
    (&[2, 5, 4, 7], false),
    (&[2, 5, 4, 9], false),
    (&[2, 5, 4, 17], false),
    (&[2, 5, 4, 10], false),
    (&[2, 5, 4, 11], false),
    (&[2, 5, 4, 3], true),
    (&[2, 5, 4, 5], true),
];

/// The issuer's part of a certificate.
pub struct Issuer<'a> {
    /// Its subject in DER.
    pub subject: &'a [u8],
    pub key_id: Option<&'a [u8]>,
    /// The signature algorithm in DER.
    pub algorithm: &'a [u8],
}

fn oid(parts: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(parts)
}

/// A subject: its attributes by kind, in the order of [`ATTRIBUTES`].
fn attributes(subject: &X509Name<'_>) -> Vec<(&'static [u64], Vec<String>)> {
    let all = ATTRIBUTES.iter().map(|(id, single)| {
        let mine = subject
            .iter_attributes()
            .filter(|a| a.attr_type().iter().is_some_and(|parts| parts.eq(id.iter().copied())));
        let mut values: Vec<String> = mine.filter_map(|a| a.as_str().ok().map(str::to_string)).collect();
        if *single {
            values = values.pop().filter(|v| !v.is_empty()).into_iter().collect();
        }
        (*id, values)
    });
    all.filter(|(_, values)| !values.is_empty()).collect()
}

/// Go's choice: the old type where its letters suffice.
fn write_text(writer: DERWriter<'_>, text: &str) {
    let printable = |b: u8| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b);
    if text.bytes().all(printable) {
        writer.write_printable_string(text)
    } else {
        writer.write_utf8_string(text)
    }
}

fn write_name(writer: DERWriter<'_>, attributes: &[(&[u64], Vec<String>)]) {
    writer.write_sequence(|w| {
        for (id, values) in attributes {
            w.next().write_set_of(|w| {
                for value in values {
                    w.next().write_sequence(|w| {
                        w.next().write_oid(&oid(id));
                        write_text(w.next(), value);
                    });
                }
            });
        }
    });
}

/// Two digits of the year until 2049.
fn write_time(writer: DERWriter<'_>, time: Timestamp) {
    let civil = time.to_zoned(TimeZone::UTC).datetime();
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second()
    );
    let (tag, text) = if (1950..2050).contains(&civil.year()) {
        (23, format!("{:02}{rest}", civil.year() % 100))
    } else {
        (24, format!("{:04}{rest}", civil.year()))
    };
    writer.write_tagged_implicit(Tag { tag_class: yasna::TagClass::Universal, tag_number: tag }, |w| {
        w.write_bytes(text.as_bytes());
    });
}

fn write_extension(writer: &mut DERWriterSeq<'_>, id: &[u64], critical: bool, value: &[u8]) {
    writer.next().write_sequence(|w| {
        w.next().write_oid(&oid(id));
        if critical {
            w.next().write_bool(true);
        }
        w.next().write_bytes(value);
    });
}

fn key_usage(bits: u16) -> Vec<u8> {
    let bytes = bits.to_be_bytes();
    let used = 16 - bits.trailing_zeros() as usize;
    let bytes = if bytes[1] == 0 { &bytes[..1] } else { &bytes[..] };
    yasna::construct_der(|w| w.write_bitvec_bytes(bytes, used))
}

fn alternative_names(names: &Names) -> Vec<u8> {
    let tagged = |w: DERWriter<'_>, number: u64, bytes: &[u8]| {
        w.write_tagged_implicit(Tag::context(number), |w| w.write_bytes(bytes));
    };
    yasna::construct_der(|w| {
        w.write_sequence(|w| {
            names.dns.iter().for_each(|n| tagged(w.next(), 2, n.as_bytes()));
            names.emails.iter().for_each(|n| tagged(w.next(), 1, n.as_bytes()));
            names.addresses.iter().for_each(|a| tagged(w.next(), 7, short(a)));
            names.uris.iter().for_each(|n| tagged(w.next(), 6, n.as_bytes()));
        });
    })
}

/// IPv4 addresses in IPv6 form are written short.
fn short(address: &[u8]) -> &[u8] {
    const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    address.strip_prefix(&MAPPED).unwrap_or(address)
}

fn write_extensions(
    writer: DERWriter<'_>,
    terms: &Terms,
    issuer: &Issuer<'_>,
    names: &Names,
    anonymous: bool,
) {
    writer.write_sequence(|w| {
        if terms.key_usage != 0 {
            write_extension(w, &[2, 5, 29, 15], true, &key_usage(terms.key_usage));
        }
        if !terms.extended.is_empty() {
            let list = yasna::construct_der(|w| {
                w.write_sequence(|w| terms.extended.iter().for_each(|id| w.next().write_oid(&oid(id))));
            });
            write_extension(w, &[2, 5, 29, 37], false, &list);
        }
        // Not a CA.
        write_extension(w, &[2, 5, 29, 19], true, &yasna::construct_der(|w| w.write_sequence(|_| {})));
        if let Some(id) = issuer.key_id {
            let list = yasna::construct_der(|w| {
                w.write_sequence(|w| {
                    w.next().write_tagged_implicit(Tag::context(0), |w| w.write_bytes(id));
                });
            });
            write_extension(w, &[2, 5, 29, 35], false, &list);
        }
        if !names.is_empty() {
            write_extension(w, &[2, 5, 29, 17], anonymous, &alternative_names(names));
        }
    });
}

/// The part of a certificate that is signed.
///
/// # Errors
/// The request's alternative names are malformed.
pub fn to_be_signed(
    request: &X509CertificationRequest<'_>,
    terms: &Terms,
    issuer: &Issuer<'_>,
    serial: &[u8],
) -> Result<Vec<u8>, String> {
    let info = &request.certification_request_info;
    let (names, subject) = (names(request)?, attributes(&info.subject));
    let own = yasna::construct_der(|w| write_name(w, &subject));
    // A certificate that names itself as its issuer does not say by which key.
    let issuer = &Issuer { key_id: issuer.key_id.filter(|_| own != issuer.subject), ..*issuer };
    Ok(yasna::construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_tagged(Tag::context(0), |w| w.write_i64(2));
            w.next().write_bigint_bytes(serial, true);
            w.next().write_der(issuer.algorithm);
            w.next().write_der(issuer.subject);
            w.next().write_sequence(|w| {
                write_time(w.next(), terms.not_before);
                write_time(w.next(), terms.not_after);
            });
            w.next().write_der(&own);
            w.next().write_der(info.subject_pki.raw);
            w.next().write_tagged(Tag::context(3), |w| {
                write_extensions(w, terms, issuer, &names, subject.is_empty());
            });
        });
    }))
}

/// The whole certificate.
pub fn certificate(to_be_signed: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    yasna::construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_der(to_be_signed);
            w.next().write_der(algorithm);
            w.next().write_bitvec_bytes(signature, signature.len() * 8);
        });
    })
}

/// An algorithm in DER; RSA's has a null for its parameters.
pub fn algorithm(id: &[u64], null: bool) -> Vec<u8> {
    yasna::construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_oid(&oid(id));
            if null {
                w.next().write_null();
            }
        });
    })
}
