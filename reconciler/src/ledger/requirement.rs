//! What has to be so for anything to work, in a sentence each for whoever has to set it right.

use super::Ledger;
use crate::error::Error;
use sqlx::{AssertSqlSafe, Executor};
use std::time::Duration;
use tokio::time::timeout;

/// What has to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// A session stays with the server that it began with.
    Sessions,
    /// The database holds whatever Redis takes for a user's id.
    Encoding,
    /// The tables are those of this binary.
    Schema,
    /// The role may do what the daemon and the commands do.
    Privileges,
    /// The role sees every row.
    Rows,
}

/// A notification that has not come within this time does not come.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(3);

const NOT_KEPT: &str =
    "notifications do not arrive, as through a pooler in transaction mode; connect directly, or to one in session mode";

const ENCODING: &str = "
    select 'the database''s encoding is ' || encoding || ', which cannot hold every user''s id; create one with UTF8, from template0'
    from current_setting('server_encoding') as encoding where encoding <> 'UTF8'";

/// What the daemon and the commands do with each table.
macro_rules! of_each_table {
    ($select:literal) => {
        concat!(
            $select,
            " from (values ('coupon coupon_position coupon_redis', 'select insert update'),
                 ('user_coupon coupon_orphan', 'select insert'), ('coupon_lease', 'select update'), ('coupon_migration', 'select'),
                 ('coupon_dead_letter coupon_instance', 'select insert update delete')) as tables (names, privileges),
             string_to_table(names, ' ') as name, string_to_table(privileges, ' ') as privilege "
        )
    };
}

const PRIVILEGES: &str = concat!(
    of_each_table!(
        "select 'privileges are missing: ' || string_agg(format('grant %s on %s to this role', privilege, name), '; ')"
    ),
    "where not has_table_privilege(name, privilege)"
);

/// Where row-level security applies to this role, and no policy lets it see all.
const ROWS: &str = concat!(
    of_each_table!(
        "select 'row-level security hides rows of ' || string_agg(distinct name, ', ')
             || '; alter this role to bypassrls, or add a policy using (true)'"
    ),
    "where row_security_active(name) and not exists (
         select from pg_policy
         where polrelid = name::regclass and polpermissive and polcmd in ('r', '*') and pg_get_expr(polqual, polrelid) = 'true'
           and exists (select from unnest(polroles) as role where role = 0 or pg_has_role(role, 'usage')))"
);

impl Requirement {
    /// All, in the order in which they can be asked for.
    pub const ALL: [Self; 5] = [Self::Sessions, Self::Encoding, Self::Schema, Self::Privileges, Self::Rows];

    /// Those that no migration changes.
    pub const OF_SERVER: [Self; 2] = [Self::Sessions, Self::Encoding];
}

impl Ledger {
    /// Whether a requirement is met.
    ///
    /// # Errors
    /// [`Error::Held`] says what to do.
    pub async fn require(&self, requirement: Requirement) -> Result<(), Error> {
        let question = match requirement {
            Requirement::Sessions if self.hears_itself().await? => return Ok(()),
            Requirement::Sessions => return Err(Error::Held(NOT_KEPT.into())),
            Requirement::Schema => return self.check_schema().await,
            Requirement::Encoding => ENCODING,
            Requirement::Privileges => PRIVILEGES,
            Requirement::Rows => ROWS,
        };
        let answer: Option<(Option<String>,)> = self.fetch(sqlx::query_as(question)).await?.pop();
        answer.and_then(|(sentence,)| sentence).map_or(Ok(()), |sentence| Err(Error::Held(sentence)))
    }

    /// Whether one session hears what another one says. All of it is said without prepared statements: a session that does not keep its
    /// server loses these too.
    async fn hears_itself(&self) -> Result<bool, Error> {
        let channel = format!("coupon_{:016x}", fastrand::u64(..));
        let mut listener = self.listen_to(&channel).await?;
        let mut connection = self.pool.acquire().await?;
        let heard = async {
            connection.execute(AssertSqlSafe(format!("notify {channel}"))).await?;
            listener.try_recv().await
        };
        let is_heard = matches!(timeout(NOTIFY_TIMEOUT, heard).await, Ok(Ok(Some(_))));
        if !is_heard {
            drop(connection.detach());
        }
        Ok(is_heard)
    }
}
