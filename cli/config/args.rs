//! How commands that work on a stopped server's data find it.

use std::path::PathBuf;

use tokio::runtime::Handle;

use super::{Flags, ServerConfig, read};
use crate::error::CliError;

/// Which data folder is meant by a command that works on a stopped server's.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// The data folder [variable: PINSTONE_DATA; default: the configuration's, or ./pinstone-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// The server's configuration [variable: PINSTONE_CONFIG; default: ./pinstone-server.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl DataArgs {
    /// Finds the folder as `serve` would.
    ///
    /// # Errors
    ///
    /// Where the configuration is wrong.
    pub(crate) fn find(self) -> Result<PathBuf, CliError> {
        self.load().map(|config| config.data)
    }

    /// Reads all of the configuration as `serve` would.
    ///
    /// # Errors
    ///
    /// Where it is wrong.
    pub(crate) fn load(self) -> Result<ServerConfig, CliError> {
        self.load_with(None)
    }

    fn load_with(self, blobs: Option<String>) -> Result<ServerConfig, CliError> {
        let (data, blobs) = (self.data.into_iter().collect(), blobs.into_iter().collect());
        let flags = Flags { data, blobs, ..Flags::default() };
        // Who works on a stopped store need not be able to read its certificates.
        read(self.config.as_deref(), flags, crate::context::variable, Handle::current(), false)
    }
}

/// Which data folder is meant, and where its files are kept.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Where files are kept [variable: PINSTONE_BLOBS; default: the configuration's, or as the data folder remembers]
    #[arg(long, value_name = "URL")]
    blobs: Option<String>,
}

impl StoreArgs {
    /// Reads all of the configuration as `serve` would.
    ///
    /// # Errors
    ///
    /// Where it is wrong.
    pub(crate) fn load(self) -> Result<ServerConfig, CliError> {
        self.data.load_with(self.blobs)
    }
}
