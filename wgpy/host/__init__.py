"""What we change on a host besides our own link: policy routing, sysctls, nftables; and taking it back.

`setting` says what is wanted, `steps` how to get there, `footprint` does it, `ledger` remembers it over a
crash. Whoever changes a host (an agent, a tunnel by file) goes through here.
"""
