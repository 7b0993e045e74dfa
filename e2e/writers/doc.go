// Package writers is where the pages of docs/writers are tried: each writer runs
// with the configuration that its page shows, in front of a real proxy and a real
// QuestDB. It has tests only.
//
// A page's fenced blocks that name a file are that configuration:
//
//	```toml telegraf.conf
//
// The tests take them from the page. They only put in another port than 9009, and
// folders of their own for those in which the page has sockets and queues.
package writers
