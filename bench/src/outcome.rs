//! What the users of a sale were told, and whether it adds up.

use crate::connection::{Reply, push_command};
use crate::load::Caller;
use coupon_core::words::Outcome;
use std::io::Write;

/// A connection's share of the sale.
pub struct Requests {
    key: String,
    told: Vec<(u32, Outcome)>,
    errors: u64,
    first_error: Option<String>,
}

impl Requests {
    /// Requests for the coupon at this key; a call is a user's number.
    #[must_use]
    pub const fn new(key: String) -> Self {
        Self { key, told: Vec::new(), errors: 0, first_error: None }
    }
}

impl Caller for Requests {
    fn encode(&self, call: u32, out: &mut Vec<u8>) {
        let mut user = Vec::with_capacity(10);
        // Writing to a vector cannot fail.
        let _ = write!(user, "{call}");
        push_command(out, &[b"COUPON.REQUEST", self.key.as_bytes(), &user]);
    }

    fn take(&mut self, call: u32, reply: Reply<'_>) {
        let outcome = match reply {
            Reply::Text(word) => Outcome::parse(word),
            Reply::Error(_) | Reply::Other => None,
        };
        match outcome {
            Some(outcome) => self.told.push((call, outcome)),
            None => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| match reply {
                    Reply::Text(text) | Reply::Error(text) => String::from_utf8_lossy(text).into_owned(),
                    Reply::Other => "neither an outcome nor an error".to_owned(),
                });
            }
        }
    }
}

/// How often one user was told what.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    accepted: u8,
    duplicate: u8,
    turned_away: u8,
}

/// All answers of a sale.
pub struct Answers {
    by_user: Vec<Told>,
    counts: Vec<(Outcome, u64)>,
    /// Calls that got no outcome.
    pub errors: u64,
    /// The first of them, in Redis's own words.
    pub first_error: Option<String>,
}

impl Answers {
    /// Brings together what all connections have heard; users are numbered from 1.
    #[must_use]
    pub fn collect(users: u32, callers: Vec<Requests>) -> Self {
        let mut by_user = vec![Told::default(); users as usize];
        let mut counts: Vec<_> = Outcome::ALL.iter().map(|outcome| (*outcome, 0)).collect();
        let (mut errors, mut first_error) = (0, None);
        for caller in callers {
            errors += caller.errors;
            first_error = first_error.or(caller.first_error);
            for (user, outcome) in caller.told {
                if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == outcome) {
                    *count += 1;
                }
                let Some(told) = by_user.get_mut((user as usize).wrapping_sub(1)) else { continue };
                match outcome {
                    Outcome::Queued | Outcome::Granted => told.accepted += 1,
                    Outcome::Duplicate => told.duplicate += 1,
                    Outcome::SoldOut | Outcome::NotOpen | Outcome::Closed => told.turned_away += 1,
                }
            }
        }
        Self { by_user, counts, errors, first_error }
    }

    /// How often each outcome was told, in the order of the contract.
    #[must_use]
    pub fn counts(&self) -> &[(Outcome, u64)] {
        &self.counts
    }

    /// How often any of these was told.
    #[must_use]
    pub fn counts_of(&self, outcomes: &[Outcome]) -> u64 {
        self.counts.iter().filter(|(outcome, _)| outcomes.contains(outcome)).map(|(_, count)| count).sum()
    }

    /// How many users were accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.by_user.iter().filter(|told| told.accepted > 0).count() as u64
    }

    /// Whether this user was accepted.
    #[must_use]
    pub fn is_accepted(&self, user: &str) -> bool {
        let told = user.parse::<usize>().ok().and_then(|user| self.by_user.get(user.wrapping_sub(1)));
        told.is_some_and(|told| told.accepted > 0)
    }

    /// The first user whose answers contradict each other. A user in the line was accepted once, and was told
    /// DUPLICATE ever after; anybody else was turned away each time.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        let place = self.by_user.iter().position(|told| match told.accepted {
            0 => told.duplicate > 0,
            1 => told.turned_away > 0,
            _ => true,
        })?;
        let Told { accepted, duplicate, turned_away } = self.by_user.get(place)?;
        Some(format!(
            "user {} was accepted {accepted} times, told DUPLICATE {duplicate} times and turned away {turned_away} times",
            place + 1
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(told: &[(u32, Outcome)]) -> Answers {
        let caller = Requests { told: told.to_vec(), ..Requests::new(String::new()) };
        Answers::collect(3, vec![caller])
    }

    #[test]
    fn answers_of_one_user_agree_or_are_named() {
        use Outcome::{Duplicate, Granted, Queued, SoldOut};
        let fine = answers(&[(1, Duplicate), (1, Queued), (2, SoldOut), (2, SoldOut), (3, Granted)]);
        assert_eq!(fine.contradiction(), None);
        assert_eq!(fine.accepted(), 2);
        assert!(fine.is_accepted("3") && !fine.is_accepted("2") && !fine.is_accepted("0"));
        for wrong in [[Queued, Queued], [Queued, SoldOut], [Duplicate, SoldOut], [Duplicate, Duplicate]] {
            let told = wrong.map(|outcome| (2, outcome));
            assert!(answers(&told).contradiction().is_some_and(|text| text.starts_with("user 2 ")), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_outcome_is_an_error() {
        let mut caller = Requests::new(String::new());
        caller.take(1, Reply::Error(b"TRYAGAIN fenced"));
        caller.take(2, Reply::Text(b"OK"));
        let answers = Answers::collect(2, vec![caller]);
        assert_eq!((answers.errors, answers.first_error.as_deref()), (2, Some("TRYAGAIN fenced")));
    }
}
