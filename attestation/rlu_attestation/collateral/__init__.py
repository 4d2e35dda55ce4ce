"""Collateral: what vendors publish about their hardware, fetched on request, checked, and kept for verification without a network.

    wants.of_bundle, wants.of_file    what evidence needs that is not beside it, as `Want`s; each knows where to ask and how to check
    http.Network                      the only network here: https, hosts that are listed, bounded in size and time
    store.Store                       a directory of checked pieces, named by kind and digest
    run.fetch                         wants, network and store together; what is in the store already is not asked for again
    listing, bundling                 what pieces answer and until when; and one file that verifies offline

Nothing that verifies imports this package. What is fetched was checked against the vendor's root before it is written; verification checks
it again, and trusts nothing because it was fetched.
"""
