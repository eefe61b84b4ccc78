//! Shuffle sharding: a flow's hash chooses a few queues, so that two flows rarely share all of them.
//! Upstream: `k8s.io/apiserver/pkg/util/shufflesharding`.

/// So many bits of a hash are enough for a fair deal.
const MAX_HASH_BITS: f64 = 60.0;
/// The largest hand that [`Dealer::new`] lets through.
pub const MAX_HAND: usize = 15;

/// Deals hands of distinct cards from a deck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dealer {
    deck: u32,
    hand: u32,
}

impl Dealer {
    /// A dealer of hands of `hand` cards from `deck`.
    ///
    /// # Errors
    /// When a hash has not enough entropy for such hands, or there is no such hand.
    pub fn new(deck: i64, hand: i64) -> Result<Self, String> {
        if deck <= 0 || hand <= 0 {
            return Err(format!("deckSize {deck} or handSize {hand} is not positive"));
        }
        if hand > deck {
            return Err(format!("handSize {hand} is greater than deckSize {deck}"));
        }
        if deck > 1 << 26 {
            return Err(format!("deckSize {deck} is impractically large"));
        }
        let too_much = || {
            format!(
                "required entropy bits of deckSize {deck} and handSize {hand} is greater than {MAX_HASH_BITS}"
            )
        };
        if ((deck as f64).log2() * hand as f64).ceil() > MAX_HASH_BITS || hand > MAX_HAND as i64 {
            return Err(too_much());
        }
        let number = |n: i64| u32::try_from(n).map_err(|_| too_much());
        Ok(Self { deck: number(deck)?, hand: number(hand)? })
    }

    /// Number of queues.
    #[must_use]
    pub fn deck(&self) -> u32 {
        self.deck
    }

    /// Size of a hand.
    #[must_use]
    pub fn hand(&self) -> u64 {
        self.hand.into()
    }

    /// The cards of a hash, each below the deck's size, in the order dealt.
    pub fn deal(&self, hash: u64) -> impl ExactSizeIterator<Item = u32> + Clone {
        let mut remainders = [0u32; MAX_HAND];
        let mut rest = hash;
        for (remainder, deck) in self.hands(&mut remainders).zip((1..=u64::from(self.deck)).rev()) {
            // Below the deck's size, which is a u32.
            *remainder = (rest % deck) as u32;
            rest /= deck;
        }
        let hand = self.hand as usize;
        let place = move |(at, remainder): (usize, u32)| {
            let earlier = remainders.iter().take(at).rev();
            earlier.fold(remainder, |card, earlier| card + u32::from(card >= *earlier))
        };
        remainders.into_iter().take(hand).enumerate().map(place)
    }

    fn hands<'a>(&self, cards: &'a mut [u32; MAX_HAND]) -> impl Iterator<Item = &'a mut u32> {
        cards.iter_mut().take(self.hand as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses() {
        for (deck, hand, why) in [
            (0, 1, "deckSize 0 or handSize 1 is not positive"),
            (2, 3, "handSize 3 is greater than deckSize 2"),
            (1 << 27, 1, "deckSize 134217728 is impractically large"),
            (1 << 10, 7, "required entropy bits of deckSize 1024 and handSize 7 is greater than 60"),
        ] {
            assert_eq!(Dealer::new(deck, hand), Err(why.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn hands_are_distinct(hash: u64, deck in 15i64..512, hand in 1i64..6) {
            let dealer = Dealer::new(deck, hand).unwrap();
            let mut cards: Vec<u32> = dealer.deal(hash).collect();
            prop_assert_eq!(cards.len() as i64, hand);
            prop_assert!(cards.iter().all(|c| i64::from(*c) < deck));
            cards.sort_unstable();
            cards.dedup();
            prop_assert_eq!(cards.len() as i64, hand);
        }
    }
}
