//! Ruby, Java, PHP, Perl, Elixir, .NET, Deno.

use super::{detected, files, shown};

#[test]
fn ruby() {
    insta::assert_snapshot!(shown(&[
        ("Gemfile", "source \"https://rubygems.org\"\nruby \"~> 3.2\"\ngem \"rails\"\ngem 'pg', '~> 1.5'\n"),
        ("Gemfile.lock", "GEM\n  specs:\n    pg (1.5.4)\n    rspec-rails (6.1.0)\n"),
        (".ruby-version", "ruby-3.2.2\n"),
        ("bin/rails", ""),
        ("spec/x_spec.rb", ""),
    ]), @r#"
    cc * pinned
        Default Gemfile:1 gems are compiled with it
    make * pinned
        Default Gemfile:1 gems are compiled with it
    ruby 3.2.2 (firm >=3.2 <4) pinned
        Pin .ruby-version:1 ruby-3.2.2
        Manifest Gemfile:2 ruby "~> 3.2"
        Default .ruby-version:1 ruby-3.2.2
        Default Gemfile:1 a Ruby project
    system libpq
        Manifest Gemfile:4 pg
        Lock Gemfile.lock:3 pg
    Ruby . - Gemfile.lock
        inputs Gemfile, Gemfile.lock, .ruby-version
        native
    test: bundle exec rspec
    start: bin/rails server
    "#);
    insta::assert_snapshot!(shown(&[
        ("x.gemspec", "Gem::Specification.new do |s|\n  s.required_ruby_version = [\">= 2.7\", \"< 4\"]\n  s.add_dependency \"rugged\"\nend\n"),
        ("Rakefile", ""),
        ("test/test_x.rb", ""),
    ]), @r#"
    cc * pinned
        Default x.gemspec:1 gems are compiled with it
    make * pinned
        Default x.gemspec:1 gems are compiled with it
    ruby >=2.7 <4
        Manifest x.gemspec:2 s.required_ruby_version = [">= 2.7", "< 4"]
        Default x.gemspec:1 a Ruby project
    system openssl
        Manifest x.gemspec:3 rugged
    Ruby . - -
        native
    test: rake test
    "#);
}

#[test]
fn java() {
    insta::assert_snapshot!(shown(&[
        ("pom.xml", "<project>\n<properties>\n<maven.compiler.source>11</maven.compiler.source>\n<maven.compiler.release>17</maven.compiler.release>\n</properties>\n<artifactId>spring-boot-maven-plugin</artifactId>\n</project>\n"),
        (".sdkmanrc", "# x\njava=17.0.9-tem\n"),
        ("Dockerfile", "FROM maven:3.9-eclipse-temurin-21 AS build\nFROM eclipse-temurin:17-jre\n"),
    ]), @"
    java 17.0.9 (firm 17) pinned
        Pin .sdkmanrc:2 17.0.9-tem
        Manifest pom.xml:4 maven.compiler.release 17
        Tested Dockerfile:1 FROM maven:3.9-eclipse-temurin-21 AS build
        Tested Dockerfile:2 FROM eclipse-temurin:17-jre
        Default Dockerfile:1 FROM maven:3.9-eclipse-temurin-21 AS build
        Default Dockerfile:2 FROM eclipse-temurin:17-jre
        Default .sdkmanrc:2 17.0.9-tem
        Default pom.xml:1 a Java project
        Default pom.xml:4 the release that is compiled for is 17
        Default pom.xml:1 the newest long-term release that will do, as of the commit
    maven 3.9 (firm *) pinned
        Tested Dockerfile:1 FROM maven:3.9-eclipse-temurin-21 AS build
        Default pom.xml:1 a Java project
    Java . - -
        inputs pom.xml
    test: mvn -B test
    build: mvn -B package -DskipTests
    start: mvn -B spring-boot:run
    ");
    insta::assert_snapshot!(shown(&[
        ("build.gradle.kts", "plugins { application }\njava { toolchain { languageVersion.set(JavaLanguageVersion.of(11)) } }\napplication { mainClass = \"x\" }\n"),
        ("gradlew", ""),
        ("gradle/wrapper/gradle-wrapper.properties", "distributionUrl=https\\://services.gradle.org/distributions/gradle-7.6-bin.zip\n"),
    ]), @"
    java 11
        Manifest build.gradle.kts:2 java { toolchain { languageVersion.set(JavaLanguageVersion.of(11)) } }
        Manifest gradle/wrapper/gradle-wrapper.properties:1 Gradle 7.6 runs on Java 19 at most
        Default build.gradle.kts:1 a Java project
        Default build.gradle.kts:1 the newest long-term release that will do, as of the commit
    Java . - -
        inputs build.gradle.kts
    test: ./gradlew test
    build: ./gradlew assemble
    start: ./gradlew run
    ");
    insta::assert_snapshot!(shown(&[
        ("build.gradle", "sourceCompatibility = '1.8'\n"),
    ]), @"
    gradle * pinned
        Default build.gradle:1 a Java project
    java 8 (firm >=8)
        Manifest build.gradle:1 sourceCompatibility = '1.8'
        Default build.gradle:1 a Java project
        Default build.gradle:1 the release that is compiled for is 8
        Default build.gradle:1 the newest long-term release that will do, as of the commit
    Java . - -
        inputs build.gradle
    test: gradle test
    build: gradle assemble
    ");
}

#[test]
fn php() {
    insta::assert_snapshot!(shown(&[
        ("composer.json", "{\n\"require\": {\n\"php\": \"^8.2|^8.3\"},\n\"scripts\": {\n\"test\": \"phpunit\"}}"),
        ("composer.lock", "{}"),
        ("artisan", ""),
    ]), @r#"
    composer * pinned
        Default composer.json:1 a PHP project
    php >=8.2 <9
        Manifest composer.json:3 require.php "^8.2|^8.3"
        Default composer.json:1 a PHP project
    Php . - composer.lock
        inputs composer.json, composer.lock
    test: composer test
    start: php artisan serve
    "#);
    insta::assert_snapshot!(shown(&[("index.php", "<?php\n")]), @"
    php *
        Default index.php:1 a PHP project
    Php . - -
    start: php -S 127.0.0.1:8000
    ");
}

#[test]
fn deno() {
    insta::assert_snapshot!(shown(&[
        ("deno.jsonc", "{\n// x\n\"tasks\": {\n\"dev\": \"deno run main.ts\",\n\"build\": \"x\",\n},\n}"),
        ("main.ts", ""),
    ]), @"
    deno *
        Default deno.jsonc:1 a Deno project
    Deno . - -
        inputs deno.jsonc
    test: deno test
    build: deno task build
    start: deno task dev
    ");
}

#[test]
fn perl_with_and_without_c() {
    insta::assert_snapshot!(shown(&[
        ("Makefile.PL", "use 5.008001;\nWriteMakefile(\n  MIN_PERL_VERSION => \"5.010\",\n);\n"),
        ("lib/Some/Thing.pm", ""),
        ("t/basic.t", ""),
    ]), @r#"
    perl >=5.10.0
        Manifest Makefile.PL:1 use 5.008001;
        Manifest Makefile.PL:3 MIN_PERL_VERSION => "5.010",
        Default Makefile.PL:1 a distribution of Perl
    Perl . - -
        inputs Makefile.PL
    test: prove -lr t
    build: perl Makefile.PL && make
    "#);
    let found = detected(&files(&[
        ("Build.PL", ""),
        ("Thing.xs", ""),
        ("lib/Thing.pm", ""),
        ("t/basic.t", ""),
    ]));
    assert_eq!(found.run.test.as_deref(), Some("perl Build.PL && ./Build && prove -br t"));
    let tools: Vec<&str> = found.tools.iter().map(|tool| tool.tool.as_str()).collect();
    assert_eq!(tools, ["cc", "make", "perl"]);
    // What others have too is no distribution.
    assert!(detected(&files(&[("META.json", "{}"), ("lib/x.js", "")])).tools.is_empty());
}

#[test]
fn what_the_catalogue_does_not_have_is_a_note() {
    insta::assert_snapshot!(shown(&[
        ("mix.exs", "def project do\n  [app: :x, elixir: \"~> 1.14\", deps: [{:phoenix, \"~> 1.7\"}]]\n"),
        ("app.csproj", "<Project Sdk=\"Microsoft.NET.Sdk.Web\">\n<TargetFrameworks>net8.0;netstandard2.0</TargetFrameworks>\n"),
        ("global.json", "{\"sdk\": {\"version\": \"8.0.100\"}}"),
    ]), @"
    Elixir . - -
        inputs mix.exs
    Dotnet . - -
        inputs app.csproj, global.json
    test: mix test && dotnet test
    build: mix compile && dotnet build
    start: mix phx.server
    note: dotnet 8.0.100 is needed, and is not provided yet [global.json:1 app.csproj:2 global.json:1 app.csproj:1 app.csproj:2]
    note: elixir >=1.14 <2 is needed, and is not provided yet [mix.exs:2 mix.exs:1]
    ");
}

#[test]
fn specifications_of_other_programs() {
    insta::assert_snapshot!(shown(&[
        ("devbox.json", "{\n\"packages\": [\n\"nodejs@22\",\n\"python312\",\n\"libpq@latest\",\n\"hello@1\"],\n\"env\": {\n\"LOG_LEVEL\": \"debug\", \"X\": \"$PWD\"},\n\"shell\": {\n\"init_hook\": [\"echo\"],\n\"scripts\": {\n\"test\": [\"npm ci\", \"npm test\"]}}}"),
        ("environment.yml", "name: x\nchannels: [conda-forge]\ndependencies:\n  - python>=3.10,<3.13\n  - gdal\n  - cmake=3.27\n  - pip:\n    - requests\n"),
        ("mise.toml", "[tools]\nbun = \"1.2\"\njava = \"temurin-21.0.2\"\n[env]\nPORT = 4000\nPATH = \"x\"\n[tasks]\nbuild = \"make all\"\n[tasks.dev]\nrun = \"make dev\"\n"),
    ]), @r#"
    bun 1.2 pinned
        Pin mise.toml:2 bun "1.2"
    cmake 3.27
        Manifest environment.yml:6 cmake=3.27
        Default environment.yml:6 cmake=3.27
    java 21.0.2 (firm 21) pinned
        Pin mise.toml:3 java "temurin-21.0.2"
        Default mise.toml:3 java "temurin-21.0.2"
    node 22 pinned
        Pin devbox.json:3 nodejs 22
    python 3.12 pinned
        Pin devbox.json:4 python312 latest
        Manifest environment.yml:4 python>=3.10,<3.13
        Default environment.yml:4 python>=3.10,<3.13
        Default environment.yml:1 a Python project
    uv * pinned
        Default environment.yml:1 installs Python projects
    system gdal
        Manifest environment.yml:5 gdal
    system libpq
        Pin devbox.json:5 libpq latest
    env LOG_LEVEL=debug
    env PORT=4000
    Python . pip -
        inputs environment.yml
        packages requests
    test: npm ci && npm test
    build: make all
    start: make dev
    note: hello in `devbox.json`: not provided yet [devbox.json:6]
    note: `devbox.json` has an `init_hook`, which is not run [devbox.json:10]
    "#);
    insta::assert_snapshot!(shown(&[
        ("justfile", "test *args:\n    pytest\n"),
        ("Dockerfile", "FROM ruby:3.3-slim\nCMD [\"ruby\", \"app one.rb\"]\n"),
    ]), @"
    just * pinned
        Default justfile:1 test:
    test: just test
    start: ruby 'app one.rb'
    ");
}
