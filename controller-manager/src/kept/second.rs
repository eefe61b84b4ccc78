//! Times as objects have them: to the second, in eight bytes.

use std::fmt;
use std::num::NonZeroI64;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::{Deserialize, Deserializer};

/// A time. Seconds since 1970; those from then on are kept one higher, so that none is zero and an `Option` takes no room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Second(NonZeroI64);

impl Second {
    pub fn at(self) -> Timestamp {
        let kept = self.0.get();
        // It was made of one.
        Timestamp::from_second(kept - i64::from(kept > 0)).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl From<Timestamp> for Second {
    fn from(time: Timestamp) -> Self {
        let second = time.as_second();
        Self(NonZeroI64::new(second + i64::from(second >= 0)).unwrap_or(NonZeroI64::MIN))
    }
}

impl fmt::Debug for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.at(), f)
    }
}

impl<'de> Deserialize<'de> for Second {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Time::deserialize(d).map(|time| time.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_come_back_in_order() {
        let all = [
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:01Z",
            "9999-12-30T00:00:00Z",
        ];
        let all = all.map(|text| text.parse::<Timestamp>().expect("a time"));
        let kept = all.map(Second::from);
        assert_eq!(kept.map(Second::at), all);
        assert!(kept.is_sorted());
        assert_eq!(size_of::<Option<Second>>(), 8);
    }
}
