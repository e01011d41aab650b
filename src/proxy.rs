//! Which proxy the user's variables name for a host, by curl's rules: `https_proxy`, `http_proxy`,
//! `all_proxy` in either case, unless `no_proxy` names the host.

use std::fmt;

use crate::context::Context;

/// What the variables say. Addresses may hold passwords: they are in no text that is shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// By scheme: the variable and the address.
    named: Vec<(&'static str, Named)>,
    /// Hosts and domains that are reached without one.
    except: String,
}

/// A proxy, and the variable that names it.
#[derive(Clone, PartialEq, Eq)]
pub struct Named {
    /// The variable.
    pub variable: String,
    /// Its value.
    pub address: String,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.named).finish()
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.variable)
    }
}

impl Proxies {
    /// Those of the user's variables.
    pub fn of(ctx: &Context) -> Proxies {
        Proxies::by(|name| Some(ctx.var(name)?.to_str()?.to_owned()))
    }

    /// Those of variables that are asked for by name.
    pub(crate) fn by(var: impl Fn(&str) -> Option<String>) -> Proxies {
        let var = |name: &str| {
            [name.to_owned(), name.to_uppercase()]
                .into_iter()
                .find_map(|variable| Some(Named { address: var(&variable)?, variable }))
        };
        let of = |scheme: &'static str| {
            let named = var(&format!("{scheme}_proxy")).or_else(|| var("all_proxy"))?;
            Some((scheme, named))
        };
        Proxies {
            named: ["http", "https"].into_iter().filter_map(of).collect(),
            except: var("no_proxy").map(|named| named.address).unwrap_or_default(),
        }
    }

    /// The one for `scheme` (`http`, `https`) and a host without its port.
    pub fn to(&self, scheme: &str, host: &str) -> Option<&Named> {
        let (_, named) = self.named.iter().find(|(of, _)| *of == scheme)?;
        (!excluded(&self.except, host)).then_some(named)
    }
}

fn excluded(list: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    list.split([',', ' ']).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*" || host == domain || host.ends_with(&format!(".{domain}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(vars: &'static [(&str, &str)]) -> Proxies {
        Proxies::by(|name| {
            let found = vars.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_scheme_has_its_own_and_both_have_the_common_one() {
        let all = proxies(&[
            ("https_proxy", "http://u:secret@one:1"),
            ("ALL_PROXY", "http://two:2"),
            ("NO_PROXY", "localhost, .corp.example"),
        ]);
        let to = |scheme, host| all.to(scheme, host).map(|n| (&*n.variable, &*n.address));
        assert_eq!(to("https", "example.com"), Some(("https_proxy", "http://u:secret@one:1")));
        assert_eq!(to("http", "example.com"), Some(("ALL_PROXY", "http://two:2")));
        assert_eq!(to("http", "localhost"), None);
        assert_eq!(to("https", "a.corp.example"), None);
        assert_eq!(to("ftp", "example.com"), None);
        assert!(!format!("{all:?}").contains("secret"));
        assert_eq!(Proxies::default().to("http", "example.com"), None);
    }

    #[test]
    fn no_proxy_names_hosts_and_domains() {
        assert!(excluded("localhost,.corp.example", "git.corp.example"));
        assert!(excluded("corp.example", "Corp.Example"));
        assert!(excluded("*", "anything"));
        assert!(excluded("*.corp.example", "a.corp.example"));
        assert!(!excluded("corp.example", "notcorp.example"));
        assert!(!excluded("", "corp.example"));
    }
}
