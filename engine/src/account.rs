//! Who is asking: a token becomes a principal, once, at the door.

use serde::{Deserialize, Serialize};

use crate::id::{TeamId, TokenId, UserId};

/// Who is asking, and for which team.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Principal {
    /// The user.
    pub user: UserId,
    /// The team that owns what is made, and whose things can be seen.
    pub team: TeamId,
    /// The token, unless the caller is in this process.
    pub token: Option<TokenId>,
    /// What commits and releases call the user.
    pub name: String,
}
