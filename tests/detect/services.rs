//! Services and variables.

use super::shown;

#[test]
fn services_of_compose_files_and_workflows() {
    insta::assert_snapshot!(shown(&[
        ("compose.yaml", "x-base: &base\n  restart: always\nservices:\n  app:\n    build: .\n    environment:\n      LOG_LEVEL: debug\n      DB_HOST: db\n      SECRET_KEY: abc\n      RETRIES: 3\n  db:\n    <<: *base\n    image: postgis/postgis:16-3.4\n  cache:\n    image: docker.io/bitnami/redis:7.2-debian\n  mail:\n    image: axllent/mailpit\n"),
        (".github/workflows/ci.yml", "jobs:\n  t:\n    services:\n      mysql:\n        image: mysql:8.4\n        env: {MYSQL_DATABASE: x}\n"),
        (".gitlab-ci.yml", "services:\n  - rabbitmq:3\n  - name: mongo:7\n"),
        (".travis.yml", "services:\n  - memcached\n  - docker\n"),
    ]), @"
    service memcached *
        Default .travis.yml:2 service memcached
    service mongo 7
        Tested .gitlab-ci.yml:3 service mongo:7
        Default .gitlab-ci.yml:3 service mongo:7
    service mysql 8.4
        Tested .github/workflows/ci.yml:5 image mysql:8.4
        Default .github/workflows/ci.yml:5 image mysql:8.4
    service postgres 16
        Tested compose.yaml:13 image postgis/postgis:16-3.4
        Default compose.yaml:13 image postgis/postgis:16-3.4
    service rabbitmq 3
        Tested .gitlab-ci.yml:2 service rabbitmq:3
        Default .gitlab-ci.yml:2 service rabbitmq:3
    service redis 7.2
        Tested compose.yaml:15 image docker.io/bitnami/redis:7.2-debian
        Default compose.yaml:15 image docker.io/bitnami/redis:7.2-debian
    env LOG_LEVEL=debug
    env RETRIES=3
    ");
}

#[test]
fn a_library_and_a_variable_together() {
    insta::assert_snapshot!(shown(&[
        ("requirements.txt", "psycopg2-binary\nredis\npymongo\n"),
        (".env.example", "POSTGRES_HOST=localhost\nREDIS_URL=redis://localhost:6379/0\nDEBUG=1\n"),
    ]), @"
    python *
        Default requirements.txt:1 a Python project
    uv * pinned
        Default requirements.txt:1 installs Python projects
    service postgres *
        Default .env.example:1 POSTGRES_HOST
        Default requirements.txt:1 psycopg2-binary
    service redis *
        Default .env.example:2 REDIS_URL
    env DEBUG=1
    Python . pip -
        inputs requirements.txt
        files requirements.txt
    ");
    // Two databases, or a file: nothing is said.
    insta::assert_snapshot!(shown(&[
        ("requirements.txt", "psycopg2-binary\nmysqlclient\n"),
        (".env.example", "DATABASE_URL=\nDB_NAME=sqlite.db\n"),
    ]), @"
    python *
        Default requirements.txt:1 a Python project
    uv * pinned
        Default requirements.txt:1 installs Python projects
    system libmysqlclient
        Manifest requirements.txt:2 mysqlclient
    env DB_NAME=sqlite.db
    Python . pip -
        inputs requirements.txt
        files requirements.txt
    note: `.env.example` names variables without a value of their own: DATABASE_URL [.env.example:1]
    ");
}

#[test]
fn variables_have_values_or_are_wanted() {
    insta::assert_snapshot!(shown(&[
        (".env.example", "# settings\nPORT=3000\nexport LOG_LEVEL=\"debug\" # or info\nNODE_ENV=production\nSTRIPE_KEY=sk_test_1\nAPI_TOKEN=\nMAIL_FROM=<you>\nLD_PRELOAD=x.so\nPATH=/bin\nSITE=http://localhost:3000\nHOME_PAGE=$SITE\n"),
        (".zagi/env.toml", "[env]\nPORT = \"4000\"\n"),
    ]), @"
    env LOG_LEVEL=debug
    env PORT=4000
    env SITE=http://localhost:3000
    note: `.env.example` names variables without a value of their own: STRIPE_KEY, API_TOKEN, MAIL_FROM, HOME_PAGE [.env.example:5 .env.example:6 .env.example:7 .env.example:11]
    ");
}
