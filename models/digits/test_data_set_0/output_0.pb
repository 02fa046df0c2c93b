
BprobabilitiesJ(Ε£?κ~q6”N19Ψh>7κλ7a$8S]E9D±9›‘Ν81Z: