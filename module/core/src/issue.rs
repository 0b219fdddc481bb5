//! COUPON.ISSUE: how many waiting users are granted now, and what the coupon is afterwards.

use crate::coupon::{Coupon, Moment};
use crate::limit::NUMBER_MAX;
use crate::number::Now;
use crate::options::{Options, set_once};
use crate::refusal::Refusal;
use crate::words::Status;

const COUNT: &str = "COUNT";

/// Reads `[COUNT n]`.
///
/// # Errors
/// [`Refusal::Usage`].
pub fn parse<'a>(rest: impl Iterator<Item = &'a [u8]>) -> Result<Option<u64>, Refusal> {
    let mut options = Options::new(rest);
    let mut count = None;
    while let Some(name) = options.next_name(&[COUNT])? {
        let value = options.number(name, 1..=NUMBER_MAX)?;
        set_once(&mut count, name, value)?;
    }
    Ok(count)
}

/// How many of the waiting users to grant in this call.
///
/// Not a refusal but 0 where there is nothing to do: a scheduler calls blindly.
///
/// # Errors
/// [`Refusal::TryAgain`] while fenced.
pub fn decide(
    coupon: &Coupon,
    requested: u64,
    count: Option<u64>,
    issue_max: u64,
    moment: Moment,
) -> Result<u64, Refusal> {
    if coupon.is_fenced(moment.token) {
        return Err(Refusal::fenced());
    }
    if coupon.status != Status::Available || coupon.is_early(moment.now) {
        return Ok(0);
    }
    Ok(coupon.grantable(moment).min(coupon.waiting(requested)).min(issue_max).min(count.unwrap_or(NUMBER_MAX)))
}

/// The status after the call's grants: those accepted in time have been served, so the window's end is the end.
#[must_use]
pub const fn status_after(coupon: &Coupon, requested: u64, now: Now) -> Status {
    match coupon.status {
        Status::Available if coupon.remaining() == 0 => Status::Issued,
        Status::Available if coupon.has_ended(now) && coupon.waiting(requested) == 0 => Status::Expired,
        status => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupon::tests::{at, available, now};
    use crate::number::Seq;
    use crate::words::Mode;

    fn granted(coupon: &Coupon, requested: u64, count: Option<u64>) -> Option<u64> {
        decide(coupon, requested, count, 1000, at(50)).ok()
    }

    #[test]
    fn a_count_is_a_number_given_once_or_not_at_all() {
        let parse = |text: &str| parse(text.split_whitespace().map(str::as_bytes));
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("count 7"), Ok(Some(7)));
        for bad in ["COUNT", "COUNT 0", "COUNT x", "COUNT 1 COUNT 2", "7"] {
            assert!(matches!(parse(bad), Err(Refusal::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn a_call_is_bounded_by_all_four_limits() {
        let coupon = available(5000, Mode::Queue);
        assert_eq!(granted(&coupon, 3, None), Some(3));
        assert_eq!(granted(&coupon, 3, Some(2)), Some(2));
        assert_eq!(granted(&coupon, 9999, None), Some(1000));
        assert_eq!(granted(&available(4, Mode::Queue), 9999, None), Some(4));
    }

    #[test]
    fn grants_wait_for_the_ledger_to_keep_up() {
        let mut coupon = available(5000, Mode::Queue);
        coupon.position.seq = Seq(10);
        coupon.persisted = Seq(7);
        let granted = |unpersisted_max| decide(&coupon, 900, None, 1000, Moment { unpersisted_max, ..at(50) });
        assert_eq!(granted(5), Ok(2));
        assert_eq!(granted(3), Ok(0));
        assert_eq!(granted(1), Ok(0));
    }

    #[test]
    fn only_an_available_coupon_grants() {
        for status in [Status::Standard, Status::Issued, Status::Expired] {
            let mut coupon = available(5, Mode::Queue);
            coupon.status = status;
            assert_eq!(granted(&coupon, 3, None), Some(0));
        }
    }

    #[test]
    fn the_window_ends_a_coupon_once_all_accepted_are_served() {
        let mut coupon = available(5, Mode::Queue);
        coupon.definition.expires_at = 50;
        assert_eq!(granted(&coupon, 3, None), Some(3), "accepted in time");
        assert_eq!(status_after(&coupon, 3, now(50)), Status::Available);
        coupon.position.seq = Seq(3);
        assert_eq!(status_after(&coupon, 3, now(49)), Status::Available);
        assert_eq!(status_after(&coupon, 3, now(50)), Status::Expired);
        coupon.position.seq = Seq(5);
        assert_eq!(status_after(&coupon, 9, now(50)), Status::Issued);
    }
}
