"""Twenty-four approved drugs, 13 to 40 heavy atoms: the work of the stages that need molecules."""

from typing import Final

#: SMILES of drugs on which speed is measured.
DRUGS: Final = (
    "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O",  # dexibuprofen
    "CC(=O)Nc1ccc(O)cc1",  # paracetamol
    "CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc21",  # diazepam
    "CN(C)CCC=C1c2ccccc2CCc2ccccc21",  # amitriptyline
    "CNCC[C@H](Oc1cccc2ccccc12)c1cccs1",  # duloxetine
    "COc1ccc2[nH]c(S(=O)Cc3ncc(C)c(OC)c3C)nc2c1",  # omeprazole
    "CC(C)NCC(O)COc1ccc(CC(N)=O)cc1",  # atenolol
    "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1",  # salbutamol
    "Cc1ccc(-c2cc(C(F)(F)F)nn2-c2ccc(S(N)(=O)=O)cc2)cc1",  # celecoxib
    "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1",  # imatinib
    "COc1cc2ncnc(Nc3ccc(F)c(Cl)c3)c2cc1OCCCN1CCOCC1",  # gefitinib
    "CCOC(=O)[C@H](CCc1ccccc1)N[C@@H](C)C(=O)N1CCC[C@H]1C(=O)O",  # enalapril
    "O=C(O)c1cn(C2CC2)c2cc(N3CCNCC3)c(F)cc2c1=O",  # ciprofloxacin
    "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O",  # penicillin G
    "CN1CC[C@]23c4c5ccc(O)c4O[C@H]2[C@@H](O)C=C[C@H]3[C@H]1C5",  # morphine
    "C[C@]12CC[C@H]3[C@@H](CCC4=CC(=O)CC[C@@]43C)[C@@H]1CC[C@@H]2O",  # testosterone
    "CCCc1nn(C)c2c(=O)[nH]c(-c3cc(S(=O)(=O)N4CCN(C)CC4)ccc3OCC)nc12",  # sildenafil
    "Clc1ccccc1CN1CCc2sccc2C1",  # ticlopidine
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",  # caffeine
    "CCCCc1nc(Cl)c(CO)n1Cc1ccc(-c2ccccc2-c2nn[nH]n2)cc1",  # losartan
    "OC(CN1C=NC=N1)(CN1C=NC=N1)c1ccc(F)cc1F",  # fluconazole
    "CC(C)c1c(C(=O)Nc2ccccc2)c(-c2ccccc2)c(-c2ccc(F)cc2)n1CC[C@@H](O)C[C@@H](O)CC(=O)O",  # atorvastatin
    "CN1CCN(C2=Nc3cc(Cl)ccc3Nc3ccccc32)CC1",  # clozapine
    "CC[C@H](C)C(=O)O[C@H]1C[C@@H](C)C=C2C=C[C@H](C)[C@H](CC[C@@H]3C[C@@H](O)CC(=O)O3)[C@H]21",  # lovastatin
)
