package config

import (
	"crypto/tls"
	"time"

	"questdb-ilp-proxy/auth"
)

// Config is the whole configuration. It holds no secret in a form that prints.
//
// The tags say what a field's variable is called (env), its default
// (envDefault), what the README says of it (desc), and what an error about it
// proposes (hint).
type Config struct {
	// Listen is where writers connect: localhost is two addresses.
	Listen Listens `env:"ILP_LISTEN" envDefault:"tcp://localhost:9009" desc:"Where writers connect, comma-separated; ${tcp://host:port}$ or ${host:port}$; ${udp://host:port}$; ${unix:///path}$; ${systemd://}$ for the sockets that systemd passes, ${systemd://NAME}$ for those with this name. ${localhost}$ is 127.0.0.1 and, where the machine has it, ::1" hint:"like tcp://localhost:9009, several comma-separated"`

	// UnixMode is the mode of the sockets that unix:// makes.
	UnixMode FileMode `env:"ILP_UNIX_MODE" envDefault:"0660" desc:"Who may connect to the sockets of ${unix://}$, as a file mode: whoever may write to one. ${ILP_ALLOW}$ does not concern them" hint:"an octal mode like 0660"`

	// Allow is who may connect.
	Allow Allow `env:"ILP_ALLOW" desc:"CIDRs or addresses that may connect, comma-separated, or ${any}$. Needed to listen on anything but loopback: this side has no authentication" hint:"CIDRs like 10.0.0.0/8, comma-separated, or any"`

	// Upstream is QuestDB's addresses as host:port, in order of preference. It
	// is filled from QDB_CLIENT_CONF too.
	Upstream Addrs `env:"ILP_UPSTREAM" desc:"QuestDB's ILP port: ${tcp://host:9009}$ or ${host:9009}$, over TLS ${tcps://host:9009}$; several, comma-separated, are tried in order" hint:"like tcp://questdb:9009, several comma-separated"`

	// AuthKeyID is the key id that goes with AuthKey or AuthKeyFile.
	AuthKeyID string `env:"ILP_AUTH_KEY_ID" desc:"Key id, with ${ILP_AUTH_KEY}$ or ${ILP_AUTH_KEY_FILE}$" hint:"the first word of the key's line in QuestDB's auth.txt"`
	// AuthKey is the private scalar d.
	AuthKey auth.Secret `env:"ILP_AUTH_KEY" desc:"Private key: the scalar ${d}$ in base64url, which clients call token" hint:"the JWK's d, 43 characters of base64url"`
	// AuthKeyFile is the path of a file with the private scalar d.
	AuthKeyFile string `env:"ILP_AUTH_KEY_FILE" desc:"Instead of ${ILP_AUTH_KEY}$: a file that holds it" hint:"the path of a readable file that holds d and nothing else"`
	// AuthJWK is the whole key as JSON.
	AuthJWK auth.Secret `env:"ILP_AUTH_JWK" desc:"Instead of key id and key: the whole JWK as QuestDB's documentation shows it; ${kid}$ is the key id" hint:"a JWK as keygen writes it"`
	// AuthJWKFile is the path of a file with the whole key as JSON.
	AuthJWKFile string `env:"ILP_AUTH_JWK_FILE" desc:"Instead of ${ILP_AUTH_JWK}$: a file that holds it" hint:"the path of a readable file that holds a JWK as keygen writes it"`
	// ClientConf is the string that every official client reads.
	ClientConf auth.Secret `env:"QDB_CLIENT_CONF" desc:"Instead of ${ILP_UPSTREAM}$ and ${ILP_AUTH_...}$: the string that every official client reads, ${tcp::addr=host:9009;username=KEYID;token=D;}$" hint:"like tcp::addr=host:9009;username=KEYID;token=D;"`

	// TLSCA is the path of a file of certificate authorities.
	TLSCA string `env:"ILP_TLS_CA" desc:"With ${tcps://}$: PEM file of the certificate authorities that QuestDB's certificate may come from. Without it the system's are trusted, or where it has none, Mozilla's as of the build" hint:"the path of a readable PEM file of CA certificates"`
	// TLSServerName is the name that the server's certificate must be for.
	TLSServerName string `env:"ILP_TLS_SERVER_NAME" desc:"With ${tcps://}$: the name that QuestDB's certificate must be for, if it is not the host of ${ILP_UPSTREAM}$" hint:"a host name or address like questdb.example"`
	// TLSCert is the path of the client's certificate.
	TLSCert string `env:"ILP_TLS_CERT" desc:"With ${tcps://}$: PEM file of the client certificate, and what else is needed up to its CA, for a server that demands one" hint:"the path of a readable PEM file of a certificate"`
	// TLSKey is the path of the private key of TLSCert.
	TLSKey string `env:"ILP_TLS_KEY" desc:"PEM file of the private key of ${ILP_TLS_CERT}$" hint:"the path of a readable PEM file of a private key"`
	// TLSUnsafeSkipVerify has no certificate verified.
	TLSUnsafeSkipVerify Truth `env:"ILP_TLS_UNSAFE_SKIP_VERIFY" envDefault:"false" desc:"${true}$ takes any certificate of any server: whoever is between can read and change everything" hint:"true or false"`

	// PoolMinIdle is how many upstream connections are authenticated in advance.
	PoolMinIdle int `env:"ILP_POOL_MIN_IDLE" envDefault:"2" desc:"Upstream connections authenticated in advance; with ${0}$, ${/readyz}$ is 503 until the first writer" hint:"a whole number from 0 to ILP_POOL_MAX"`
	// PoolMax is how many upstream connections there are at most.
	PoolMax int `env:"ILP_POOL_MAX" envDefault:"16" desc:"Upstream connections in all, at most. At most a quarter of them, or four if that is more, carry records at a time; with at-most-once half. 2 at least, and with fewer than 4 nothing is sent while a refused record is looked for" hint:"a whole number from 2 to 10000"`

	// DialTimeout bounds one attempt to connect.
	DialTimeout time.Duration `env:"ILP_DIAL_TIMEOUT" envDefault:"10s" desc:"Longest wait for a connection to QuestDB" hint:"a duration like 10s, from 1ms to 10m"`
	// AuthTimeout bounds one handshake.
	AuthTimeout time.Duration `env:"ILP_AUTH_TIMEOUT" envDefault:"15s" desc:"Longest wait for QuestDB's challenge, and before that for TLS" hint:"a duration like 15s, from 1ms to 10m"`

	// RetryBase is the first wait before a connection is tried again.
	RetryBase time.Duration `env:"ILP_RETRY_BASE" envDefault:"100ms" desc:"First wait before a failed connection is tried again; doubles each time, with jitter, for ever" hint:"a duration like 100ms, from 1ms to ILP_RETRY_MAX"`
	// RetryMax is the longest wait before a connection is tried again.
	RetryMax time.Duration `env:"ILP_RETRY_MAX" envDefault:"30s" desc:"Longest wait before a failed connection is tried again" hint:"a duration like 30s, up to 1h"`

	// Buffer is all that the proxy may hold in memory for QuestDB.
	Buffer Size `env:"ILP_BUFFER" envDefault:"64MiB" desc:"All that the proxy may hold in memory for QuestDB; when it is full, writers have to wait" hint:"a size like 64MiB, from 1MiB to 1TiB"`
	// MaxRecord is the size of the longest record that is passed on.
	MaxRecord Size `env:"ILP_MAX_RECORD" envDefault:"1MiB" desc:"Longest record, a quarter of ${ILP_BUFFER}$ at most; a longer one is rejected and counted, and its writer goes on" hint:"a size like 1MiB, from 1KiB to a quarter of ILP_BUFFER"`

	// Delivery is what the proxy promises.
	Delivery Delivery `env:"ILP_DELIVERY" envDefault:"at-least-once" desc:"${at-least-once}$: records are kept until QuestDB has them for certain, and sent again if not, so some may arrive twice; ${at-most-once}$: no record is ever sent twice, so some may be lost" hint:"at-least-once or at-most-once"`
	// ConfirmBytes is how much one connection carries before it is ended to have
	// that confirmed; see [Config.SegmentBytes].
	ConfirmBytes Size `env:"ILP_CONFIRM_BYTES" envDefault:"64MiB" desc:"Delivery is confirmed after so much on one connection, or after a quarter of ${ILP_BUFFER}$ if that is less" hint:"a size like 16MiB, from 64KiB to 256GiB"`
	// ConfirmInterval is how long a record waits at most until its confirmation
	// begins.
	ConfirmInterval time.Duration `env:"ILP_CONFIRM_INTERVAL" envDefault:"5s" desc:"Delivery is confirmed at least so often while there is something to confirm" hint:"a duration like 5s, from 100ms to 1h"`
	// Settle is how long QuestDB must live on after it has read everything.
	Settle time.Duration `env:"ILP_SETTLE" envDefault:"500ms" desc:"How long QuestDB must live on after it has read records, for them to be safe; 3s for tables that bypass WAL" hint:"a duration like 500ms, from 1ms to 10m"`
	// PathCheck says whether to find out how each address answers a refused
	// record.
	PathCheck Switch `env:"ILP_PATH_CHECK" envDefault:"on" desc:"Find out, by a malformed record on a connection of its own, how a refusal by QuestDB reaches the proxy; ${off}$ assumes the worst, which is slower" hint:"on or off"`

	// Stamp says whether rows without a timestamp get one.
	Stamp Switch `env:"ILP_STAMP" envDefault:"off" desc:"${on}$ gives rows without a timestamp the time at which they were read, so that a row that is sent again is the same row; ${off}$ never changes a byte" hint:"on or off"`

	// RejectedFile is the path of the file for rejected records, empty for none.
	RejectedFile string `env:"ILP_REJECTED_FILE" desc:"File for records that are not delivered, one JSON object a line, for ${replay}$; its folder must exist. It is rotated at 100MiB and nothing is ever deleted. Without it they go to the log, shortened" hint:"the path of a file in a folder that exists, like /var/lib/questdb-ilp-proxy/rejected.jsonl"`
	// OnRejected is what happens to the writer of a rejected record.
	OnRejected OnRejected `env:"ILP_ON_REJECTED" envDefault:"continue" desc:"What a writer sees of a rejected record: nothing (${continue}$), or the end of its connection, as from QuestDB itself (${disconnect}$)" hint:"continue or disconnect"`

	// MaxClients is how many writers are served at a time.
	MaxClients int `env:"ILP_MAX_CLIENTS" envDefault:"10000" desc:"Writers at a time; over it, one is accepted when another leaves" hint:"a whole number from 1 to 1000000"`
	// MaxClientsPerAddress is how many connections one address may have; 0 is no
	// limit.
	MaxClientsPerAddress int `env:"ILP_MAX_CLIENTS_PER_ADDRESS" envDefault:"0" desc:"Connections that one address may have, so that none can take all places of ${ILP_MAX_CLIENTS}$; those over it are closed at once. Writers behind one NAT or relay have one address. ${0}$ is no limit" hint:"a whole number from 0 to 1000000"`
	// ClientIdleTimeout closes a writer's connection that was silent for so
	// long; 0 never does.
	ClientIdleTimeout time.Duration `env:"ILP_CLIENT_IDLE_TIMEOUT" envDefault:"0" desc:"Closes a writer's connection that was silent for so long; ${0}$ is off" hint:"a duration like 5m, at least 1s, or 0 for never"`

	// DrainTimeout is how long the end may take.
	DrainTimeout time.Duration `env:"ILP_DRAIN_TIMEOUT" envDefault:"20s" desc:"How long the proxy may take, after SIGTERM, to deliver what it holds" hint:"a duration like 20s, up to 1h"`

	// Admin is the host:port of health and metrics, empty for none.
	Admin AdminAddr `env:"ILP_ADMIN" envDefault:"127.0.0.1:9090" desc:"Status page, health and metrics; ${off}$ for none" hint:"like 127.0.0.1:9090, or off"`

	// StatusRecords has the status page show what rejected records contain.
	StatusRecords Switch `env:"ILP_STATUS_RECORDS" envDefault:"false" desc:"Show the beginning of rejected records on the status page; whoever reaches ${ILP_ADMIN}$ can read it" hint:"true or false"`

	// AdminHosts is by which names the admin port may be asked.
	AdminHosts HostNames `env:"ILP_ADMIN_HOSTS" desc:"Names, comma-separated, by which ${ILP_ADMIN}$ may be asked beside localhost and IP addresses, like a service's: others are refused, so that no page in a browser gets at it under a name of its own (DNS rebinding). Unset, off loopback, names without a dot will do too" hint:"host names without ports, comma-separated, like proxy.monitoring.svc"`

	// AdminToken is what whoever ends the proxy by the admin port has to know.
	AdminToken auth.Secret `env:"ILP_ADMIN_TOKEN" desc:"Token that ${drain}$ needs (and ${ILP_ADMIN_PPROF}$), of 16 characters or more. Without one the proxy can be ended by HTTP only if ${ILP_ADMIN}$ is loopback" hint:"at least 16 printable characters without spaces, of a random generator"`
	// AdminTokenFile is the path of a file with the token.
	AdminTokenFile string `env:"ILP_ADMIN_TOKEN_FILE" desc:"Instead of ${ILP_ADMIN_TOKEN}$: a file that holds it" hint:"the path of a readable file that holds the token and nothing else"`
	// AdminPprof says whether the admin port shows Go's profiles.
	AdminPprof Switch `env:"ILP_ADMIN_PPROF" envDefault:"off" desc:"Show Go's profiles at ${/debug/pprof/}$ of the admin port, guarded as ${/drain}$ is" hint:"on or off"`

	// Sandbox says whether the process gives up what it does not need.
	Sandbox Sandbox `env:"ILP_SANDBOX" envDefault:"on" desc:"Once it listens, the proxy gives up all files and TCP ports but its own (Landlock), and new privileges, as far as the kernel can; with ${require}$ it does not start where the kernel cannot" hint:"on, off or require"`

	// LogLevel is the lowest level that is logged.
	LogLevel LogLevel `env:"ILP_LOG_LEVEL" envDefault:"info" desc:"${debug}$, ${info}$, ${warn}$ or ${error}$" hint:"one of debug, info, warn, error"`
	// LogFormat is how log lines look.
	LogFormat LogFormat `env:"ILP_LOG_FORMAT" envDefault:"auto" desc:"${text}$, ${json}$ or ${auto}$: coloured text on a terminal, else JSON" hint:"one of auto, text, json"`

	// UpstreamTLS is whether the connections to Upstream are over TLS.
	UpstreamTLS bool
	// TLS is what connections to QuestDB need for TLS, nil without.
	TLS *tls.Config
	// Key is the key that results from whichever source was used.
	Key *auth.Key
	// Warnings are things that work, but that somebody should know: log them.
	Warnings []string

	conf ClientConf // what ClientConf says
}
