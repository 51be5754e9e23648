"""The systems that are compared: how each is started in a folder of its own, and how it is stopped."""

import os
import pathlib
import shutil
import signal
import subprocess

from .processes import below, free_port, get, listens, spawn, wait_until

REPOSITORY = pathlib.Path(__file__).resolve().parents[4]
POSTGRES = pathlib.Path("/usr/lib/postgresql/15/bin")
RABBITMQ = pathlib.Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def node(folder):
    return shutil.which("node") and (folder / "bridges" / "complete").exists()


class System:
    """A system that takes NDJSON at `url` and posts to the sites `/s1` … of the sink."""

    # Whether one more site takes requests and never answers, which is no site of the comparison.
    dead = False
    # Processes share most of their memory, so their peaks cannot be added up.
    shared_memory = False

    def __init__(self, home, folder, sites, sink, mapped, **options):
        self.home, self.folder, self.sites, self.sink, self.mapped = home, folder, range(1, sites + 1), sink, mapped
        self.port, self.data, self.log, self.children = free_port(), folder / "data", folder / "log", []
        self.data.mkdir(parents=True)
        vars(self).update(options)

    @staticmethod
    def installed(home):
        """Whether what it needs is there."""
        return True

    def site(self, number):
        return f"http://127.0.0.1:{self.sink}/s{number}"

    def targets(self):
        """Where it delivers: URLs by name."""
        named = {f"s{number}": self.site(number) for number in self.sites}
        return named | ({"dead": f"http://127.0.0.1:{self.sink}/dead"} if self.dead else {})

    def full_change_url(self):
        """Where the change of every product is posted."""
        return self.url

    def spawn(self, *command, env=None):
        child = spawn(command, self.folder, self.log, env)
        self.children.append(child)
        return child

    def running(self):
        """True, or an error with the end of the log if a process of the system has ended."""
        for child in self.children:
            if child.poll() is not None:
                log = self.log.read_text(errors="replace")[-1500:]
                raise RuntimeError(f"{pathlib.Path(child.args[0]).name} ended with {child.returncode}: {log}")
        return True

    def wait(self, seconds, what, condition):
        wait_until(seconds, what, lambda: self.running() and condition())

    def stop(self):
        for child in reversed(self.children):
            if child.poll() is None:
                self.end(child)
        for child in reversed(self.children):
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def end(self, child):
        child.terminate()


class Rig(System):
    """The load straight at the sink: what the rig itself can do on this machine."""

    def start(self):
        self.url = self.site(1)


class Weir(System):
    """`weir run`, a plain channel for each site. Options: batch."""

    def start(self):
        facet, source, entity = "price", "", 'facets.price = { owner = "load" }'
        config = f'config_version = 1\n[server]\nlisten = "127.0.0.1:{self.port}"\n[store]\npath = "data"\n'
        if self.mapped:
            source, entity = 'plugins = ["pim"]', 'facets."content.*" = { owner = "load" }'
            config += f'[plugins.pim]\npath = "{self.component}"\n[plugins.pim.settings]\nlocales = ["de_DE", "fr_FR"]\nscope = "ecommerce"\n'
            config += 'attributes = { name = "name", description = "description", cord_length = "cord_length", seq = "seq" }\n'
        config += f"[entities.product]\n{entity}\n[sources.load]\n{source}\n"
        for number, (name, url) in enumerate(self.targets().items(), 1):
            if self.mapped:
                facet = "content.fr_FR" if number % 2 else "content.de_DE"
            config += f'[channels.{name}]\nentity = "product"\nfacets = ["{facet}"]\nbatch = {self.batch}\n'
            config += f'target = {{ kind = "webhook", url = "{url}" }}\n'
        (self.folder / "weir.toml").write_text(config)
        self.spawn(self.program, "run", "-c", "weir.toml", "--log", "warn")
        self.wait(30, "weir is ready", lambda: get(f"http://127.0.0.1:{self.port}/readyz"))
        self.url = f"http://127.0.0.1:{self.port}/v1/sources/load/events"

    def full_change_url(self):
        return f"{self.url}?lane=bulk"


class PlainBridge(System):
    """The plain bridge of the rig. Options: synced, concurrency."""

    def start(self):
        targets = [word for url in self.targets().values() for word in ("--target", url)]
        log = ["--folder", self.data] if self.synced else ["--memory"]
        address = f"127.0.0.1:{self.port}"
        self.spawn(self.home / "rig/release/peers-rig", "bridge", "--listen", address, "--concurrency", self.concurrency, *log, *targets)
        self.wait(10, "the plain bridge is ready", lambda: get(f"http://{address}/health"))
        self.url = f"http://{address}/events"


class NodeBridge(System):
    """A bridge in JavaScript: a process that accepts and one that delivers."""

    def command(self, file, role, **options):
        options |= {"port": self.port, "sink": self.sink, "sites": len(self.sites), "map": self.mapped}
        words = [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items() if value is not False]
        return ["node", self.home / "bridges" / file, role, *words]

    def start_bridge(self, file, **options):
        self.spawn(*self.command(file, "accept", **options))
        self.wait(20, f"{file} accepts", lambda: get(f"http://127.0.0.1:{self.port}/health"))
        self.spawn(*self.command(file, "deliver", **options))
        self.wait(20, f"{file} delivers", lambda: "delivering" in self.log.read_text(errors="replace"))
        self.url = f"http://127.0.0.1:{self.port}/events"


class BullMQ(NodeBridge):
    """BullMQ on Redis with an append-only file. Options: fsync (everysec, always), keep (first, newest)."""

    @staticmethod
    def installed(home):
        return shutil.which("redis-server") and node(home)

    def start(self):
        redis = free_port()
        self.spawn("redis-server", "--port", redis, "--bind", "127.0.0.1", "--dir", self.data, "--appendonly", "yes",
                   "--appendfsync", self.fsync, "--save", "", "--daemonize", "no", "--maxmemory-policy", "noeviction")
        self.wait(10, "redis is ready", lambda: listens(redis, b"PING\r\n", b"+PONG"))
        self.start_bridge("bullmq.js", redis=redis, keep=self.keep)


class Postgres(NodeBridge):
    """An outbox in PostgreSQL. Options: split (the payload once for all sites)."""

    shared_memory = True
    SETTINGS = {"listen_addresses": "127.0.0.1", "max_connections": 60, "shared_buffers": "512MB", "max_wal_size": "4GB",
                "checkpoint_timeout": "5min", "autovacuum_naptime": "5s"}

    @staticmethod
    def installed(home):
        return (POSTGRES / "postgres").exists() and shutil.which("setpriv") and node(home)

    def start(self):
        port = free_port()
        user = []
        if os.getuid() == 0:  # PostgreSQL refuses to run as root.
            user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
            shutil.chown(self.folder, "postgres")
            shutil.chown(self.data, "postgres")
        with open(self.log, "ab") as log:
            create = [*user, POSTGRES / "initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-E", "UTF8"]
            subprocess.run(create, check=True, timeout=60, stdout=log, stderr=log, cwd=self.folder)
            settings = {**self.SETTINGS, "port": port, "unix_socket_directories": ""}
            words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
            self.server = self.spawn(*user, POSTGRES / "postgres", "-D", self.data, *words)
            ready = [POSTGRES / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            self.wait(20, "postgres is ready", lambda: subprocess.run(ready, timeout=10).returncode == 0)
            tables = [str(word) for word in self.command("postgres.js", "create", postgres=port)]
            subprocess.run(tables, check=True, timeout=30, stdout=log, stderr=log, cwd=self.folder)
        self.start_bridge("postgres.js", postgres=port, split=self.split)

    def end(self, child):
        # SIGTERM would wait for the connections of the bridge.
        child.send_signal(signal.SIGINT if child is self.server else signal.SIGTERM)


class RabbitMQ(NodeBridge):
    """RabbitMQ with a queue for each site. Options: queue (classic, quorum)."""

    @staticmethod
    def installed(home):
        return RABBITMQ.exists() and node(home)

    def start(self):
        amqp, distribution, names = free_port(), free_port(), free_port()
        # Erlang's name server would otherwise be started in the background, and stay.
        self.spawn("epmd", "-port", names, "-address", "127.0.0.1")
        self.wait(10, "epmd is ready", lambda: listens(names))
        config = f"listeners.tcp.1 = 127.0.0.1:{amqp}\ndisk_free_limit.absolute = 1GB\nlog.file.level = warning\n"
        (self.folder / "rabbitmq.conf").write_text(config)
        (self.folder / "plugins").write_text("[].")
        home = self.folder / "home"
        home.mkdir()
        erlang = "-kernel inet_dist_use_interface {127,0,0,1} -setcookie peers"
        self.server = self.spawn(RABBITMQ, env={
            "HOME": str(home), "RABBITMQ_NODENAME": f"peers-{amqp}@localhost", "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_LOG_BASE": str(self.folder), "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"), "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_DIST_PORT": str(distribution), "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": erlang,
            "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(names),
        })
        self.wait(90, "rabbitmq is ready", lambda: listens(amqp))
        self.start_bridge("rabbitmq.js", amqp=amqp, queue=self.queue)

    def end(self, child):
        if child is not self.server:
            child.terminate()
            return
        # The server is started by a script that passes no signal on.
        machines = [pid for pid, (name, _, _) in below([child.pid]).items() if name.startswith("beam")]
        for pid in machines:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        if not machines:
            child.terminate()

    def stop(self):
        # The name server has to outlive the broker.
        names, self.children = self.children[:1], self.children[1:]
        super().stop()
        self.children = names
        super().stop()
