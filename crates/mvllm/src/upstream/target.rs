//! Where a server is: everything about its address that can be worked out once.

use http::HeaderValue;
use http::uri::{PathAndQuery, Uri};
use rustls::pki_types::ServerName;

use crate::config::url::{Host, Scheme, ServerUrl};

/// A server's address, ready for use on every request.
#[derive(Debug)]
pub(crate) struct Target {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) scheme: Scheme,
    /// The `Host` header that the server is to see.
    pub(crate) authority: HeaderValue,
    prefix: String,
}

impl Target {
    pub(crate) fn new(url: &ServerUrl) -> Result<Self, http::Error> {
        Ok(Self {
            host: url.host().clone(),
            port: url.port(),
            scheme: url.scheme(),
            authority: HeaderValue::try_from(url.authority())?,
            prefix: url.path_prefix().to_owned(),
        })
    }

    /// The request target for `path` at this server, in origin form.
    pub(crate) fn uri(&self, path: &PathAndQuery) -> Result<Uri, http::Error> {
        if self.prefix.is_empty() {
            return Ok(Uri::from(path.clone()));
        }
        Ok(Uri::try_from(format!("{}{path}", self.prefix))?)
    }

    /// The name that the server's certificate must carry.
    pub(super) fn certificate_name(&self) -> Result<ServerName<'static>, InvalidName> {
        match &self.host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| InvalidName),
            Host::V4(ip) => Ok(ServerName::from(std::net::IpAddr::from(*ip))),
            Host::V6(ip) => Ok(ServerName::from(std::net::IpAddr::from(*ip))),
        }
    }
}

/// A host name that URLs allow and certificates do not, like one with an underscore.
#[derive(Debug, thiserror::Error)]
#[error("no certificate can be issued for this host name")]
pub(crate) struct InvalidName;
