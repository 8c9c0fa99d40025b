//! Where a server is: everything about its address that can be worked out once.

use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use rustls::pki_types::ServerName;

use super::credentials::Credentials;
use super::names::Names;
use crate::config::ServerSettings;
use crate::config::url::{Host, Scheme, ServerUrl};

/// A server's address, ready for use on every request.
#[derive(Debug)]
pub(crate) struct Target {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) scheme: Scheme,
    /// The `Host` header that the server is to see.
    authority: HeaderValue,
    credentials: Credentials,
    prefix: String,
    /// What the resolver says of the host, if that is a name.
    pub(super) names: Names,
}

impl Target {
    /// Where `url` points to; credentials are passed on as they are.
    pub(crate) fn new(url: &ServerUrl) -> Result<Self, http::Error> {
        Ok(Self {
            host: url.host().clone(),
            port: url.port(),
            scheme: url.scheme(),
            authority: HeaderValue::try_from(url.authority())?,
            credentials: Credentials::default(),
            prefix: url.path_prefix().to_owned(),
            names: Names::default(),
        })
    }

    /// A server of the configuration, with the key that it is to see.
    pub(crate) fn of(server: &ServerSettings) -> Result<Self, http::Error> {
        Ok(Self { credentials: Credentials::of(server), ..Self::new(&server.url)? })
    }

    /// Whether this still is what `server` says.
    pub(crate) fn is_of(&self, server: &ServerSettings) -> bool {
        self.credentials == Credentials::of(server)
    }

    /// Makes the headers of a request those of one to this server.
    pub(crate) fn put_on(&self, headers: &mut HeaderMap) {
        headers.insert(HOST, self.authority.clone());
        self.credentials.settle(headers);
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
