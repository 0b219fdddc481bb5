//! A coupon as Redis holds it, read with plain commands, and the promises that must always hold for it.

use crate::resp::{Client, Value};
use coupon_core::grant::Grant;
use coupon_core::key::{GRANTS, ISSUED, REFUSED};
use coupon_core::number::Chain;
use coupon_core::user::UserId;
use std::collections::{BTreeMap, HashSet};

/// The keys of a coupon.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The status hash.
    pub hash: BTreeMap<String, String>,
    /// Accepted users in order, with their scores.
    pub issued: Vec<(String, f64)>,
    /// The grants in the stream.
    pub grants: Vec<Grant>,
    /// Users whose rows PostgreSQL refused, in the order of their names.
    pub refused: Vec<String>,
}

impl Stored {
    /// Reads the keys.
    ///
    /// # Panics
    /// If one of them holds what a coupon cannot.
    #[must_use]
    pub fn read(client: &mut Client, key: &str) -> Self {
        let hash = client.call(&["HGETALL", key]);
        let hash = hash.pairs().into_iter().map(|(name, value)| (name.to_owned(), value.text().to_owned())).collect();
        let issued = client.call(&["ZRANGE", &format!("{key}{ISSUED}"), "0", "-1", "WITHSCORES"]);
        let score = |value: &Value| value.text().parse().expect("a score");
        let issued = issued.pairs().into_iter().map(|(user, value)| (user.to_owned(), score(value))).collect();
        let entries = client.call(&["XRANGE", &format!("{key}{GRANTS}"), "-", "+"]);
        let grants = entries.array().iter().map(grant).collect();
        let refused = client.call(&["ZRANGE", &format!("{key}{REFUSED}"), "0", "-1"]);
        let refused = refused.array().iter().map(|user| user.text().to_owned()).collect();
        Self { hash, issued, grants, refused }
    }

    /// A number of the status hash.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn number(&self, field: &str) -> i64 {
        let text = self.hash.get(field).unwrap_or_else(|| panic!("no field {field} in {:?}", self.hash));
        text.parse().unwrap_or_else(|_| panic!("field {field} is no number: {text}"))
    }

    /// The users in the stream, in grant order.
    #[must_use]
    pub fn granted(&self) -> Vec<&str> {
        self.grants.iter().map(|grant| grant.user.as_str()).collect()
    }

    /// What must hold for a coupon whose stream was never trimmed.
    ///
    /// # Panics
    /// If a promise is broken, naming it.
    pub fn assert_promises(&self) {
        let (quantity, seq) = (self.number("quantity"), self.number("seq"));
        assert!(seq <= quantity, "more granted than there are units: {seq} of {quantity}");
        assert_eq!(self.number("remaining"), quantity - seq, "remaining is not quantity less grants");
        assert_eq!(self.grants.len() as i64, seq, "the stream holds another number of grants than seq says");
        assert_eq!(
            self.hash["status"] == "ISSUED",
            seq == quantity,
            "status {} at {seq} of {quantity}",
            self.hash["status"]
        );
        let users: HashSet<&str> = self.granted().into_iter().collect();
        assert_eq!(users.len(), self.grants.len(), "a user has two grants");
        assert!(self.issued.windows(2).all(|pair| pair[0].1 < pair[1].1), "two users share an arrival time");
        let mut chain = Chain::START;
        for (number, grant) in (1..).zip(&self.grants) {
            assert_eq!(grant.id.seq.0, number, "seq has a gap");
            let (user, score) = &self.issued[number as usize - 1];
            assert_eq!((&grant.user, grant.requested_at.score()), (user, *score), "grant {number} is out of order");
            chain = chain.next(UserId::parse(grant.user.as_bytes()).expect("a user id"), grant.requested_at);
            assert_eq!(grant.chain, chain, "the chain breaks at grant {number}");
        }
        assert_eq!(self.number("chain"), chain.0, "the hash holds another chain than the newest grant");
    }
}

fn grant(entry: &Value) -> Grant {
    let [id, fields] = entry.array() else { panic!("not a stream entry: {entry}") };
    let names: Vec<&str> = fields.pairs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, coupon_core::grant::field::ALL, "the fields of a grant, in their order");
    let fields = fields.array().chunks_exact(2).map(|pair| (pair[0].bytes(), pair[1].bytes()));
    Grant::parse(id.text(), fields).unwrap_or_else(|part| panic!("the {part} of a grant is malformed: {entry}"))
}
