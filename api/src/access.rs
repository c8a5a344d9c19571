//! What a call needs of whoever makes it: a verb and an object, said once for each route and method in the table of
//! routes, and checked in one place that all of them pass. A route that says nothing does not compile.
//!
//! What is beyond this is the engine's: which projects a token reaches, and which environments it moves.

use pinstone_engine::account::{Access, Scope};

/// What a call needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// Nothing, and a token is not looked at.
    Nothing,
    /// Nothing; but a token that is sent must be one, for it changes what the call does.
    NothingOrToken,
    /// A token that may do this to that.
    Token(Scope, Object),
}

/// What a call is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Object {
    /// The token itself and whose it is.
    Caller,
    /// One project and what is in it. Which one, the engine compares with the token.
    Project,
    /// One project as a whole, beyond any environment of it.
    WholeProject,
    /// The account: its tokens, its password, its audit log, all of it.
    Account,
    /// The server. The engine lets the owner alone do it.
    Server,
}

/// Looking at whoever asks.
pub(crate) const SEE_CALLER: Need = Need::Token(Scope::Read, Object::Caller);
/// Looking at a project.
pub(crate) const READ: Need = Need::Token(Scope::Read, Object::Project);
/// Publishing to a project and moving its pointers.
pub(crate) const DEPLOY: Need = Need::Token(Scope::Deploy, Object::Project);
/// Ending what lasts in a project.
pub(crate) const END: Need = Need::Token(Scope::Admin, Object::Project);
/// Changing a project as a whole.
pub(crate) const MANAGE: Need = Need::Token(Scope::Admin, Object::WholeProject);
/// Whatever concerns the account.
pub(crate) const ACCOUNT: Need = Need::Token(Scope::Admin, Object::Account);
/// Whatever concerns the server.
pub(crate) const SERVER: Need = Need::Token(Scope::Admin, Object::Server);

/// Whether a token with this access may do what needs `scope` to `object`.
pub(crate) fn admits(access: &Access, scope: Scope, object: Object) -> bool {
    let reaches = match object {
        Object::Caller | Object::Project => true,
        Object::WholeProject => access.environment.is_none(),
        Object::Account | Object::Server => access.is_everywhere(),
    };
    reaches && access.scope >= scope
}
