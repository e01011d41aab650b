//! Services: what images of compose files and workflows, and addresses in `.env.example`, say
//! is running beside the project.
//!
//! A library that talks to a database shows nothing alone, since many projects support
//! several; together with a variable that names one (`DATABASE_URL`, `REDIS_HOST`) it does.

use super::survey::{Place, Survey};
use super::types::{Evidence, Strength};
use super::variables;
use super::written::{release, split};
use crate::environment::version::Constraint;

/// What is known of one service.
struct Service {
    name: &'static str,
    images: &'static [&'static str],
    /// Beginnings of addresses.
    schemes: &'static [&'static str],
    /// Libraries that talk to it, of any ecosystem.
    clients: &'static [&'static str],
    /// Beginnings of variables that tell such a library where it is.
    variables: &'static [&'static str],
}

const SERVICES: [Service; 9] = [
    Service {
        name: "postgres",
        images: &["postgres", "postgresql", "postgis", "pgvector", "timescaledb", "timescaledb-ha"],
        schemes: &["postgres://", "postgresql://", "postgresql+"],
        clients: &[
            "psycopg",
            "psycopg2",
            "psycopg2-binary",
            "asyncpg",
            "pg8000",
            "pg",
            "postgres",
            "pg-promise",
            "github.com/lib/pq",
            "github.com/jackc/pgx",
            "tokio-postgres",
        ],
        variables: &["DATABASE_", "POSTGRES", "PG", "DB_"],
    },
    Service {
        name: "mysql",
        images: &["mysql", "mysql-server", "percona"],
        schemes: &["mysql://", "mysql2://", "mysql+"],
        clients: &[
            "mysqlclient",
            "pymysql",
            "aiomysql",
            "mysql-connector-python",
            "mysql2",
            "mysql",
            "github.com/go-sql-driver/mysql",
            "mysql_async",
        ],
        variables: &["DATABASE_", "MYSQL", "DB_"],
    },
    Service {
        name: "mariadb",
        images: &["mariadb"],
        schemes: &["mariadb://", "mariadb+"],
        clients: &["mariadb"],
        variables: &["MARIADB", "DB_"],
    },
    Service {
        name: "redis",
        images: &["redis", "redis-stack", "redis-stack-server"],
        schemes: &["redis://", "rediss://"],
        clients: &[
            "redis",
            "ioredis",
            "aioredis",
            "bull",
            "bullmq",
            "sidekiq",
            "github.com/redis/go-redis",
            "github.com/go-redis/redis",
        ],
        variables: &["REDIS"],
    },
    Service {
        name: "valkey",
        images: &["valkey"],
        schemes: &["valkey://"],
        clients: &["valkey", "iovalkey"],
        variables: &["VALKEY"],
    },
    Service {
        name: "mongo",
        images: &["mongo", "mongodb", "mongodb-community-server"],
        schemes: &["mongodb://", "mongodb+srv://"],
        clients: &[
            "pymongo",
            "motor",
            "mongoengine",
            "mongodb",
            "mongoose",
            "mongoid",
            "go.mongodb.org/mongo-driver",
        ],
        variables: &["MONGO", "DATABASE_", "DB_"],
    },
    Service {
        name: "rabbitmq",
        images: &["rabbitmq"],
        schemes: &["amqp://", "amqps://"],
        clients: &[
            "pika",
            "aio-pika",
            "amqplib",
            "bunny",
            "github.com/rabbitmq/amqp091-go",
            "lapin",
        ],
        variables: &["RABBIT", "AMQP"],
    },
    Service {
        name: "memcached",
        images: &["memcached"],
        schemes: &["memcached://"],
        clients: &["pymemcache", "python-memcached", "pylibmc", "memcached", "dalli"],
        variables: &["MEMCACHE"],
    },
    Service {
        name: "elasticsearch",
        images: &["elasticsearch"],
        schemes: &[],
        clients: &["elasticsearch", "@elastic/elasticsearch"],
        variables: &["ELASTIC"],
    },
];

/// Compose files; the first that is there is the project's.
const COMPOSE: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-compose.dev.yml",
    "docker-compose.test.yml",
    "compose.dev.yaml",
    "compose.dev.yml",
];

/// A service by its image: `postgres:16-alpine`, `bitnami/redis:7.2`, `timescale/timescaledb:latest-pg16`.
pub(super) fn image(survey: &mut Survey<'_>, name: &str, tag: &str, evidence: Evidence) {
    let Some(service) = SERVICES.iter().find(|service| service.images.contains(&name)) else {
        return;
    };
    survey.services.need(service.name, evidence.clone());
    let number = match tag.split_once("pg") {
        Some((_, number)) if service.name == "postgres" => number,
        _ => tag.split('-').next().unwrap_or(tag),
    };
    if let Some(version) = release(number) {
        survey.services.claim(service.name, Constraint::prefix(&version), evidence);
    }
}

/// A service as Travis calls it: `postgresql`, `redis-server`.
pub(super) fn named(survey: &mut Survey<'_>, said: &str, evidence: Evidence) {
    let name = said.trim_end_matches("-server").trim_end_matches("-service");
    image(survey, name, "", evidence);
}

/// Remembers that the project depends on `package`, if that talks to a service.
pub(super) fn client(survey: &mut Survey<'_>, package: &str, evidence: &Evidence) {
    for service in SERVICES.iter().filter(|service| service.clients.contains(&package)) {
        survey.clients.entry(service.name).or_insert_with(|| evidence.clone());
    }
}

/// Reads the compose file, and what variables say of the libraries that were found.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    let mut stated = variables::names(survey, root);
    stated.extend(compose(survey, root));
    for (evidence, value) in stated {
        let address = |service: &&Service| service.schemes.iter().any(|s| value.starts_with(s));
        if let Some(service) = SERVICES.iter().find(address) {
            // Where it really is, whoever runs the service says.
            survey.env.remove(&evidence.text);
            survey.services.need(service.name, evidence);
            continue;
        }
        // A file, or an address of something else.
        if value.contains("sqlite") || value.contains("://") {
            continue;
        }
        let meant = |service: &&Service| {
            let named = service.variables.iter().any(|v| evidence.text.starts_with(v));
            named && survey.clients.contains_key(service.name)
        };
        let mut meant = SERVICES.iter().filter(meant);
        // With the libraries of two, a general name says nothing.
        if let (Some(service), None) = (meant.next(), meant.next()) {
            survey.env.remove(&evidence.text);
            let client = survey.clients[service.name].clone();
            survey.services.need(service.name, evidence);
            survey.services.need(service.name, client);
        }
    }
}

/// Reads the compose file: images of services, and the variables of what is built here.
fn compose(survey: &mut Survey<'_>, root: &Place) -> Vec<(Evidence, String)> {
    let mut stated = Vec::new();
    let Some(name) = COMPOSE.into_iter().find(|name| root.has(name)) else { return stated };
    let Some((text, yaml)) = survey.yaml(name) else { return stated };
    let Some(all) = yaml.get("services") else { return stated };
    let hosts: Vec<&str> = all.entries().iter().map(|(host, _)| host.as_str()).collect();
    for (_, service) in all.entries() {
        if let Some(said) = service.get("image")
            && let Some(named) = said.str()
        {
            let (name, tag) = split(named);
            let evidence = text.evidence(said.line, format!("image {named}"), Strength::Tested);
            image(survey, name, tag, evidence);
        }
        let environment = service.get("build").and(service.get("environment"));
        let Some(environment) = environment else { continue };
        let map = environment
            .entries()
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.str()?.to_owned(), value.line)));
        let listed = environment.items().iter().filter_map(|item| {
            let (name, value) = item.str()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned(), item.line))
        });
        for (name, value, line) in map.chain(listed).take(64) {
            let evidence = text.evidence(line, name.clone(), Strength::Tested);
            // What names another service of the file is only there.
            let elsewhere = hosts.iter().any(|host| value.contains(host)) || value.contains('/');
            if !elsewhere && variables::is_plain(&name, &value) {
                variables::set(survey, &name, &value, evidence.clone());
            }
            stated.push((evidence, value));
        }
    }
    stated
}
