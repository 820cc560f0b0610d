"""The schema: the truth about what the coordinator keeps. Migrations lead here, and a test holds them to it.

Instants (`…_at`, `until`) are seconds of Unix time. Ids are 32 lower-case hexadecimal digits, random, never
used again. No secret stands here in the clear: tokens, API keys, cookies and set-up links are SHA-256 of
256 random bits, passwords argon2id, the coordinator's own secrets are wrapped by the key file, nodes' private
keys never leave the nodes.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

meta: Final = Table(
    "meta",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1: one row"),
    Column(
        "epoch", String(32), nullable=False, comment="random; another one means a full map for every node"
    ),
    Column(
        "urls", JSON, nullable=False, comment="where nodes reach the coordinator, in order; part of every map"
    ),
    Column("created_at", Double, nullable=False, comment="when this database was made"),
    CheckConstraint("id = 1", name="one_row"),
)

secrets: Final = Table(
    "secrets",
    metadata,
    Column("name", String(32), primary_key=True, comment="identity, leaf, next_leaf or session"),
    Column("wrapped", LargeBinary, nullable=False, comment="nonce and ciphertext under the key file"),
    Column("created_at", Double, nullable=False, comment="when it was made"),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True, comment="first 8 octets of key_hash, hexadecimal"),
    Column("key_hash", LargeBinary, nullable=False, comment="SHA-256 of the key's 256 random bits"),
    Column("name", String(63), nullable=False, comment="what it is for, in the admin's words"),
    Column("scope", String(8), nullable=False, server_default="admin", comment="read, enrol or admin"),
    Column("network_id", String(32), comment="the one network that it opens; none: all, and the coordinator"),
    Column("created_at", Double, nullable=False, comment="when it was made"),
    Column("expires_at", Double, comment="from when on it opens nothing; none: never"),
    Column("revoked_at", Double, comment="when it stopped working"),
)

people: Final = Table(
    "people",
    metadata,
    Column("id", String(32), primary_key=True, comment="random"),
    Column("name", String(64), nullable=False, unique=True, comment="what they sign in with, lower case"),
    Column("password", String(200), comment="argon2id, encoded with its parameters; none: cannot be used"),
    Column("is_admin", Boolean, nullable=False, comment="may do everything on this coordinator"),
    Column("issuer", String(255), comment="the OpenID provider that vouches for them"),
    Column("subject", String(255), comment="who they are to that provider"),
    Column("created_at", Double, nullable=False, comment="when they were added"),
    Column("disabled_at", Double, comment="since when they are kept out"),
    UniqueConstraint("issuer", "subject"),
)

roles: Final = Table(
    "roles",
    metadata,
    Column("person_id", String(32), ForeignKey("people.id"), primary_key=True, comment="who"),
    Column("network_id", String(32), primary_key=True, comment="on which network"),
    Column("role", String(8), nullable=False, comment="viewer, member or admin"),
    Index(None, "network_id"),
)

providers: Final = Table(
    "providers",
    metadata,
    Column("name", String(63), primary_key=True, comment="a DNS label; what an admin calls this one"),
    Column("label", String(64), nullable=False, comment="what the button on the sign-in page says"),
    Column("issuer", String(255), nullable=False, unique=True, comment="the URL that vouches for people"),
    Column("client_id", String(255), nullable=False, comment="what this coordinator is called there"),
    Column("sealed_secret", LargeBinary, comment="the client's secret, sealed; none: a public client"),
    Column("admits", String(8), nullable=False, comment="known: who was added here; everyone: all it knows"),
    Column("roles", JSON, nullable=False, comment="what everyone becomes at first, by network id"),
    Column("created_at", Double, nullable=False, comment="when it was set up"),
)

browser_sessions: Final = Table(
    "browser_sessions",
    metadata,
    Column("id", String(16), primary_key=True, comment="first 8 octets of secret_hash, hexadecimal"),
    Column("secret_hash", LargeBinary, nullable=False, comment="SHA-256 of the cookie's 256 random bits"),
    Column("person_id", String(32), ForeignKey("people.id"), nullable=False, comment="who signed in"),
    Column("address", String(45), nullable=False, comment="from where"),
    Column("agent", String(200), nullable=False, comment="what the browser said it is"),
    Column("created_at", Double, nullable=False, comment="when"),
    Column("used_at", Double, nullable=False, comment="last use, to five minutes"),
    Index(None, "person_id"),
)

setup_links: Final = Table(
    "setup_links",
    metadata,
    Column("id", String(16), primary_key=True, comment="first 8 octets of secret_hash, hexadecimal"),
    Column("secret_hash", LargeBinary, nullable=False, comment="SHA-256 of the link's 256 random bits"),
    Column("person_id", String(32), comment="whose password it sets; none: makes the first admin"),
    Column("created_at", Double, nullable=False, comment="when it was made; a used one is gone"),
)

audit: Final = Table(
    "audit",
    metadata,
    Column(
        "id",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        comment="counts up; what a reader of the log goes on from",
    ),
    Column("at", Double, nullable=False, comment="when"),
    Column("actor_kind", String(8), nullable=False, comment="person, key, host or stranger"),
    Column("actor_id", String(32), nullable=False, comment="the id of who did it"),
    Column("actor", String(64), nullable=False, comment="their name at that time"),
    Column("address", String(45), nullable=False, comment="from where"),
    Column("action", String(32), nullable=False, comment="what was done, such as token.create"),
    Column("network_id", String(32), comment="in which network; none: on the coordinator"),
    Column("subject_id", String(32), nullable=False, comment="the id of what was changed"),
    Column("subject", String(253), nullable=False, comment="its name at that time"),
    Column("before", JSON(none_as_null=True), comment="how it was, without secrets; none: it was not"),
    Column("after", JSON(none_as_null=True), comment="how it is since; none: it is gone"),
    Index(None, "at"),
    Index(None, "network_id", "id"),
)

replies: Final = Table(
    "replies",
    metadata,
    Column("id", String(64), primary_key=True, comment="SHA-256 of caller and Idempotency-Key, hexadecimal"),
    Column("request_hash", LargeBinary, nullable=False, comment="SHA-256 of what was asked"),
    Column("status", Integer, nullable=False, comment="of the answer"),
    Column("sealed", LargeBinary, nullable=False, comment="the answer, sealed: it may hold a new secret"),
    Column("created_at", Double, nullable=False, comment="when; kept for a day"),
    Index(None, "created_at"),
)

networks: Final = Table(
    "networks",
    metadata,
    Column("id", String(32), primary_key=True, comment="random"),
    Column("name", String(63), nullable=False, unique=True, comment="a DNS label; the admin's name for it"),
    Column("ranges", JSON, nullable=False, comment="prefixes that addresses are taken from, in order"),
    Column("mtu", Integer, nullable=False, comment="of the nodes' interfaces, octets"),
    Column(
        "keepalive", Integer, nullable=False, comment="persistent keepalive between nodes, seconds; 0 is off"
    ),
    Column("suffix", String(253), nullable=False, comment="DNS suffix of the nodes' names"),
    Column("description", String(500), comment="the admin's own words"),
    Column(
        "listen_port",
        Integer,
        nullable=False,
        server_default="0",
        comment="UDP port of nodes that have no other choice of their own; 0: any",
    ),
    Column(
        "keyless",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="whether hosts may ask to join without a token",
    ),
    Column(
        "approval",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="whether joins wait for approval, unless their token says otherwise",
    ),
    Column(
        "visibility",
        JSON(none_as_null=True),
        comment="pairs of tags whose nodes see each other, `*` for any; none: all see all",
    ),
    Column(
        "rotate_after",
        Integer,
        nullable=False,
        server_default="0",
        comment="seconds after which a node makes itself a new WireGuard key; 0: never by itself",
    ),
    Column(
        "notices",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="one up with each change that no map shows: settings, tokens, joins that wait",
    ),
    Column("names", JSON, comment="records and name servers that an admin added; none: no such"),
    Column("revision", BigInteger, nullable=False, comment="one up with each change, under this row's lock"),
    Column("created_at", Double, nullable=False, comment="when it was made"),
)

tokens: Final = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True, comment="first 8 octets of secret_hash, hexadecimal"),
    Column("network_id", String(32), ForeignKey("networks.id"), nullable=False, comment="what it admits to"),
    Column("secret_hash", LargeBinary, nullable=False, comment="SHA-256 of the token's 256 random bits"),
    Column("uses_allowed", Integer, nullable=False, comment="how many nodes it admits; 0: no limit"),
    Column("uses", Integer, nullable=False, comment="how many nodes it has admitted"),
    Column("created_at", Double, nullable=False, comment="when it was made"),
    Column("expires_at", Double, nullable=False, comment="from when on it admits nobody"),
    Column("revoked_at", Double, comment="when an admin took it back"),
    Column("tags", JSON(none_as_null=True), comment="what its nodes are tagged with; none: nothing"),
    Column("node_name", String(63), comment="what its one node is called, whatever it asks for"),
    Column("node_addresses", JSON(none_as_null=True), comment="the addresses that its one node gets"),
    Column("ephemeral_after", Integer, comment="seconds offline after which its nodes are removed"),
    Column("approval", Boolean, comment="whether its joins wait for approval; none: as the network says"),
    Index(None, "network_id"),
)

nodes: Final = Table(
    "nodes",
    metadata,
    Column("id", String(32), primary_key=True, comment="random"),
    Column(
        "network_id", String(32), ForeignKey("networks.id"), nullable=False, comment="where it is a member"
    ),
    Column("name", String(63), nullable=False, comment="a DNS label, unique in its network"),
    Column("machine_key", LargeBinary, nullable=False, comment="Ed25519 public key, 32 octets"),
    Column(
        "wireguard_key", LargeBinary, nullable=False, unique=True, comment="Curve25519 public key, 32 octets"
    ),
    Column("token_id", String(16), nullable=False, comment="the token it joined with"),
    Column("addresses", JSON, nullable=False, comment="its /32 and /128, as claimed in `addresses`"),
    Column("key_epoch", Integer, nullable=False, comment="bearers of another epoch are refused"),
    Column(
        "record", Text, comment="its canonical record, signed by its machine key; none until it has signed"
    ),
    Column("record_seq", BigInteger, nullable=False, comment="seq of `record`, 0 without; only grows"),
    Column("visible_from", BigInteger, comment="the revision at which it first signed a record"),
    Column("capabilities", JSON, nullable=False, comment="what it said it can do when it joined"),
    Column("joined_at", Double, nullable=False, comment="when it joined"),
    Column("tags", JSON(none_as_null=True), comment="DNS labels, in order; none: no tags"),
    Column("ephemeral_after", Integer, comment="seconds offline after which it is removed; none: it stays"),
    Column("absent_since", Double, comment="since when an ephemeral node has no lease, as the sweep saw it"),
    Column("disabled_at", Double, comment="since when an admin keeps it out of all maps"),
    Column("expires_at", Double, comment="from when on it is kept out of all maps; none: never"),
    Column("expired_at", Double, comment="when the sweep saw that; a later expires_at clears it"),
    Column("key_made_at", Double, comment="when it took its present WireGuard key; none: as it joined"),
    Column("rotation_wanted_at", Double, comment="when an admin asked for a new key that has not come yet"),
    Column("person_id", String(32), comment="whose own device it is; none: nobody's"),
    Column("version", String(32), comment="of wgpy, as it said at its last session"),
    UniqueConstraint("network_id", "name"),
    UniqueConstraint("machine_key", "token_id"),
    Index(None, "person_id"),
)

joins: Final = Table(
    "joins",
    metadata,
    Column("id", String(32), primary_key=True, comment="random"),
    Column("network_id", String(32), ForeignKey("networks.id"), nullable=False, comment="what it asks for"),
    Column(
        "token_id", String(16), nullable=False, comment="its token, or the first half of `id` without one"
    ),
    Column("commitment", LargeBinary, comment="SHA-256 of what a host without a token will open"),
    Column("nonce", LargeBinary, comment="ours, given against the commitment"),
    Column(
        "code",
        Integer,
        comment="30 bits that the host shows and an admin types; none: by token, or not opened",
    ),
    Column("name", String(63), comment="what the host wishes to be called; none: not opened yet"),
    Column("machine_key", LargeBinary, comment="Ed25519 public key, 32 octets"),
    Column("wireguard_key", LargeBinary, comment="Curve25519 public key, 32 octets"),
    Column("capabilities", JSON(none_as_null=True), comment="what it said it can do"),
    Column("address", String(45), nullable=False, comment="from where it came"),
    Column("source", String(64), nullable=False, comment="the same as limits count it: an IPv6 /64 is one"),
    Column("created_at", Double, nullable=False, comment="when"),
    Column("expires_at", Double, nullable=False, comment="from when on it is forgotten"),
    Column("refused_at", Double, comment="when an admin refused it"),
    Index(None, "network_id"),
    Index(None, "source"),
    Index(None, "expires_at"),
)

relays: Final = Table(
    "relays",
    metadata,
    Column("id", String(32), primary_key=True, comment="of its key: 16 octets of its hash"),
    Column("name", String(63), nullable=False, unique=True, comment="a DNS label; the admin's name for it"),
    Column("public_key", LargeBinary, nullable=False, comment="Ed25519 public key, 32 octets"),
    Column("hosts", JSON, nullable=False, comment="HOST:PORT of its UDP, in order; part of every map"),
    Column("url", String(255), comment="where it takes the same over TLS; none: nowhere"),
    Column("is_own", Boolean, nullable=False, comment="`serve` itself runs it"),
    Column("created_at", Double, nullable=False, comment="when it was made: the order in every map"),
)

forwards: Final = Table(
    "forwards",
    metadata,
    Column("id", String(32), primary_key=True, comment="random"),
    Column("network_id", String(32), ForeignKey("networks.id"), nullable=False, comment="whose range it is"),
    Column("node_id", String(32), nullable=False, comment="the gateway or exit node"),
    Column("range", String(43), nullable=False, comment="what others route to it"),
    Column("target", String(43), nullable=False, comment="what lies behind it: the same, or a virtual one's"),
    Column("nat", Boolean, nullable=False, comment="whether it masquerades"),
    Column("interface", String(15), nullable=False, comment="by which it is reached; empty: by the route"),
    Column("offered", Boolean, nullable=False, comment="the node says that it would forward it"),
    Column("approved_at", Double, comment="since when an admin wants it; none: offered alone"),
    Column("elected", Boolean, nullable=False, comment="of several gateways for this range, this is the one"),
    Column("problem", String(200), nullable=False, comment="why the node does not forward it, in its words"),
    Column("created_at", Double, nullable=False, comment="when it was first named"),
    Column("group_id", String(32), comment="the ingress group whose clients are in it; none: a place"),
    UniqueConstraint("node_id", "target"),
    UniqueConstraint("node_id", "range"),
    Index(None, "network_id"),
)

ingress_groups: Final = Table(
    "ingress_groups",
    metadata,
    Column("id", String(32), primary_key=True, comment="random"),
    Column("network_id", String(32), ForeignKey("networks.id"), nullable=False, comment="whose clients"),
    Column("name", String(63), nullable=False, comment="a DNS label, unique in its network"),
    Column("endpoint", String(260), nullable=False, comment="HOST:PORT that clients connect to"),
    Column("listen_port", Integer, nullable=False, comment="UDP port of its gateways"),
    Column("ranges", JSON, nullable=False, comment="where its clients' addresses are, in the network's"),
    Column("dns", Boolean, nullable=False, comment="whether its gateways answer names for clients"),
    Column("public_key", LargeBinary, comment="Curve25519, 32 octets; none: no gateway has made it yet"),
    Column("version", BigInteger, nullable=False, comment="one up with each change that gateways act on"),
    Column("created_at", Double, nullable=False, comment="when it was made"),
    UniqueConstraint("network_id", "name"),
)

ingress_gateways: Final = Table(
    "ingress_gateways",
    metadata,
    Column("node_id", String(32), primary_key=True, comment="a node is in one group at most"),
    Column("group_id", String(32), ForeignKey("ingress_groups.id"), nullable=False, comment="which"),
    Column(
        "sealed_key",
        LargeBinary,
        comment="the group's private key, sealed to the node's machine key by another",
    ),
    Column("created_at", Double, nullable=False, comment="when it was added; the first makes the key"),
    Index(None, "group_id"),
)

clients: Final = Table(
    "clients",
    metadata,
    Column("id", String(32), primary_key=True, comment="random"),
    Column("network_id", String(32), ForeignKey("networks.id"), nullable=False, comment="which it reaches"),
    Column("group_id", String(32), ForeignKey("ingress_groups.id"), nullable=False, comment="by which way"),
    Column("name", String(63), nullable=False, comment="a DNS label, unique among the network's clients"),
    Column(
        "public_key", LargeBinary, nullable=False, unique=True, comment="Curve25519 public key, 32 octets"
    ),
    Column("key_by", String(8), nullable=False, comment="who made its key: client, or server (not kept)"),
    Column("group_key", LargeBinary, nullable=False, comment="the group's key that its file names"),
    Column("addresses", JSON, nullable=False, comment="its /32 and /128, as claimed in `addresses`"),
    Column("reach", JSON, nullable=False, comment="everything, or which nodes (ids) and ranges"),
    Column("created_at", Double, nullable=False, comment="when it was made"),
    Column("disabled_at", Double, comment="since when an admin keeps it out"),
    Column("expires_at", Double, comment="from when on it is kept out; none: never"),
    Column("expired_at", Double, comment="when the sweep saw that; a later expires_at clears it"),
    UniqueConstraint("network_id", "name"),
    Index(None, "group_id"),
    Index(None, "expires_at"),
)

client_links: Final = Table(
    "client_links",
    metadata,
    Column("id", String(16), primary_key=True, comment="first 8 octets of secret_hash, hexadecimal"),
    Column("secret_hash", LargeBinary, nullable=False, comment="SHA-256 of the link's 256 random bits"),
    Column("client_id", String(32), ForeignKey("clients.id"), nullable=False, comment="whose file"),
    Column("sealed_file", LargeBinary, nullable=False, comment="the file, sealed under the link's secret"),
    Column("expires_at", Double, nullable=False, comment="from when on it is forgotten; a used one is gone"),
    Index(None, "client_id"),
    Index(None, "expires_at"),
)

client_sightings: Final = Table(
    "client_sightings",
    metadata,
    Column("client_id", String(32), primary_key=True, comment="whose; not in the log, not in the map"),
    Column("node_id", String(32), primary_key=True, comment="the gateway that says so"),
    Column("handshake_at", Double, nullable=False, comment="its latest handshake with that gateway"),
    Column("endpoint", String(64), nullable=False, comment="ip:port that it came from; empty: not known"),
    Column("rx_bytes", BigInteger, nullable=False, comment="received from it since the gateway began"),
    Column("tx_bytes", BigInteger, nullable=False, comment="sent to it since the gateway began"),
    Column("at", Double, nullable=False, comment="when the gateway said so"),
    Index(None, "node_id"),
)

removed_nodes: Final = Table(
    "removed_nodes",
    metadata,
    Column("id", String(32), primary_key=True, comment="the node's id, as it was"),
    Column("network_id", String(32), nullable=False, comment="where it was a member; may be gone as well"),
    Column("machine_key", LargeBinary, nullable=False, comment="proves who asks for the signed removal"),
    Column("removed_at", Double, nullable=False, comment="kept for 90 days: a host may be off for long"),
    Index(None, "removed_at"),
)

addresses: Final = Table(
    "addresses",
    metadata,
    Column(
        "network_id", String(32), ForeignKey("networks.id"), primary_key=True, comment="whose address it is"
    ),
    Column("range", String(43), primary_key=True, comment="the prefix it was taken from"),
    Column(
        "host", BigInteger, primary_key=True, autoincrement=False, comment="its number inside that prefix"
    ),
    Column("node_id", String(32), comment="who has it; nobody while it rests"),
    Column("released_at", Double, comment="since when it rests; it is given again after 7 days"),
    Column(
        "token_id", String(16), comment="the token that names it: it is kept for its node, or was given to it"
    ),
    Index(None, "node_id"),
)

change_log: Final = Table(
    "change_log",
    metadata,
    Column(
        "network_id", String(32), ForeignKey("networks.id"), primary_key=True, comment="where it happened"
    ),
    Column("revision", BigInteger, primary_key=True, autoincrement=False, comment="what the network came to"),
    Column("kind", String(16), primary_key=True, comment="node, network or visibility"),
    Column("entity", String(32), primary_key=True, comment="id of what changed: read its row for how"),
    Column("at", Double, nullable=False, comment="when; kept for 7 days or 100,000 rows"),
    Index(None, "at"),
)

endpoints: Final = Table(
    "endpoints",
    metadata,
    Column(
        "node_id",
        String(32),
        primary_key=True,
        comment="whose endpoints; not in the log, not in the map hash",
    ),
    Column("network_id", String(32), nullable=False, comment="its network"),
    Column(
        "boot",
        BigInteger,
        nullable=False,
        comment="the node's boot counter: (boot, sequence) decides who wins",
    ),
    Column("sequence", BigInteger, nullable=False, comment="counts the node's reports since that boot"),
    Column("endpoints", JSON, nullable=False, comment="ip:port, at most 16, best first"),
    Column("updated_at", Double, nullable=False, comment="when this was written"),
    Index(None, "network_id"),
)

leases: Final = Table(
    "leases",
    metadata,
    Column("node_id", String(32), primary_key=True, comment="who is connected"),
    Column("process", String(32), primary_key=True, comment="to which coordinator process"),
    Column("until", Double, nullable=False, comment="a node is online while it has a lease that is not over"),
    Index(None, "until"),
)
